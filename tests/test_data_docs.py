"""docs/how-to/your-data.md runs as it stands, from the top, and names every kind of data."""

from __future__ import annotations

import re
from pathlib import Path

from notbugs.data import KINDS

DOCS = Path(__file__).parents[1] / "docs" / "how-to" / "your-data.md"


def test_every_block_of_the_guide_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTBUGS_CACHE", "cache")
    text = DOCS.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) == 12
    for block in blocks:
        line = text.count("\n", 0, block.start()) + 1
        code = "\n" * line + block[1]
        exec(compile(code, str(DOCS), "exec"), names)  # noqa: S102


def test_the_guide_has_the_table_of_kinds():
    rows = "\n".join(f"| `{kind.form}` | {kind.about} |" for kind in KINDS)
    assert rows in DOCS.read_text(encoding="utf-8")
