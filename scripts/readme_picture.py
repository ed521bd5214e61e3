"""Draw the README's picture from a study: python scripts/readme_picture.py runs/digits docs/digits.png."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import vl_convert

from notbugs.report.charts import figure_2b
from notbugs.report.lineup import line_up
from notbugs.report.reading import read_results


def main(study: Path, picture: Path) -> None:
    figure = figure_2b(line_up(read_results(study / "results.json")), width=620)
    if figure is None:
        sys.exit(f"{study} has nothing to draw")
    colours = re.sub(r"var\(--c\w+, (#\w+)\)", r"\1", str(figure))  # the page's themes are not known here
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', colours)
    assert size
    white = f'<rect width="{size[1]}" height="{size[2]}" fill="#ffffff"/>'
    namespace = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    namespace += 'font-family="Arial, Liberation Sans, DejaVu Sans" '
    colours = colours.replace("<svg ", namespace, 1).replace(">", f">{white}", 1)
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(vl_convert.svg_to_png(colours, scale=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
