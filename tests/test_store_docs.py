"""docs/how-to/the-files.md runs as it stands, from the top."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs" / "how-to" / "the-files.md"


def test_every_block_of_the_page_runs(tmp_path):
    """In a process of its own, as a reader would: `datasets` is not made to run under our checks."""
    text = DOCS.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) >= 8
    script = tmp_path / "page.py"
    lines = [""] * (text.count("\n") + 1)
    for block in blocks:  # at their lines in the page
        first = text.count("\n", 0, block.start()) + 1
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    script.write_text("\n".join(lines), encoding="utf-8")
    finished = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr
    assert "must be there, whole, and of this build. It is damaged (" in finished.stdout
    measured = re.findall(r"^(float32|float16|uint8) \{'l2_error'", finished.stdout, re.MULTILINE)
    assert measured == ["float32", "float16", "uint8"]
