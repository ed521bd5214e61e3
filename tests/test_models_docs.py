"""docs/how-to/your-model.md runs as it stands, from the top, and its table is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from notbugs.models import ARCHITECTURES, build
from notbugs.seeds import seeded
from tests.vision import torchvision

pytestmark = pytest.mark.whole

DOCS = Path(__file__).parents[1] / "docs" / "how-to" / "your-model.md"
TEXT = DOCS.read_text(encoding="utf-8")


def test_every_block_of_the_guide_runs(tmp_path, monkeypatch):
    torchvision()
    pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "guide"}
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
    assert len(blocks) >= 8
    with seeded(0):
        for block in blocks:
            line = TEXT.count("\n", 0, block.start()) + 1
            code = "\n" * line + block[1]
            exec(compile(code, str(DOCS), "exec"), names)  # noqa: S102


def test_the_table_of_the_guide():
    rows = re.findall(r"^\| (`.*) \| ([\d, ]+) \| `", TEXT, re.MULTILINE)
    told = {}
    for names, counts in rows:
        numbers = [int(count.replace(",", "")) for count in re.findall(r"\d[\d,]*\d", counts)]
        told |= dict(zip(re.findall(r"`([\w-]+)`", names), numbers, strict=True))
    assert list(told) == list(ARCHITECTURES)
    with torch.device("meta"):
        for name, count in told.items():
            network = build(name, channels=3, classes=10)
            assert sum(parameter.numel() for parameter in network.parameters()) == count
