"""The tutorials run from the top, as they stand but with less training; built with the site they run in full."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import notbugs as nb

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
TUTORIALS = sorted(FOLDER.glob("*.ipynb"))
LESS = {
    r'"epochs": \d+': '"epochs": 1',
    r"epochs=\d+": "epochs=1",
    r"--epochs \d+": "--epochs 1",
    r"train=1500, test=600": "train=120, test=80",
    r"images=20\)": "images=4, measured=40, fit_images=100)",
    r"sample\(60,": "sample(6,",
    r'nb.load\("digits"\)': 'nb.load("digits").take(120, 60, 0)',
    r'"train_images": 200, "test_images": 60': '"train_images": 40, "test_images": 20',
    r'"matching": {"steps": 20}': '"matching": {"steps": 1}',
    r"data.test.sample\(200,": "data.test.sample(20,",
}
"""What makes a tutorial quick: patterns, each with what takes its place."""


def code(path: Path) -> str:
    """Its cells as one program: files are written, and pictures are drawn nowhere."""
    lines = ["import matplotlib", "matplotlib.use('agg')", "from pathlib import Path as _Path"]
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            continue
        if source.startswith("%%writefile "):
            name, _, text = source.removeprefix("%%writefile ").partition("\n")
            lines.append(f"_Path({name!r}).write_text({text!r})")
        else:
            lines.append(source)
    program = "\n".join(lines)
    for pattern, less in LESS.items():
        program = re.sub(pattern, less, program)
    return program.replace("plt.show()", "plt.close()")


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_a_notebook_without_outputs_that_runs(path, tmp_path, monkeypatch):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert "".join(cells[0]["source"]).startswith("# ")
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
    assert any("plt.show()" in "".join(cell["source"]) for cell in cells), "no picture"
    folder = FOLDER if path.stem == "results-with-pandas" else tmp_path
    monkeypatch.chdir(folder)
    if path.stem == "add-an-instrument":  # instruments are found when notbugs.study is imported
        finished = subprocess.run([sys.executable, "-c", code(path)], capture_output=True, text=True, timeout=240)
        assert finished.returncode == 0, finished.stderr[-2000:]
        return
    monkeypatch.setattr("notbugs.search.evaluation.ATTACKS", dict(nb.search.ATTACKS))
    monkeypatch.setattr(sys, "path", [*sys.path])
    exec(compile(code(path), path.name, "exec"), {"__name__": "tutorial"})  # noqa: S102


def test_every_tutorial_is_on_the_site():
    text = (FOLDER / "index.md").read_text(encoding="utf-8")
    site = (FOLDER.parents[1] / "mkdocs.yml").read_text(encoding="utf-8")
    for path in TUTORIALS:
        assert f"]({path.name})" in text
        assert f"tutorials/{path.stem}.md" in site
