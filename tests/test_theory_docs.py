"""docs/explanation/theory.md runs as it stands, from the top."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs" / "explanation" / "theory.md"


def test_every_block_of_the_guide_runs():
    text = DOCS.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) >= 12
    for block in blocks:
        line = text.count("\n", 0, block.start()) + 1
        code = "\n" * line + block[1]
        exec(compile(code, str(DOCS), "exec"), names)  # noqa: S102
