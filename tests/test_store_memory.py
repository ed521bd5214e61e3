"""A set larger than the memory there is can be opened, verified and exported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from notbugs.classifier import Classifier
from notbugs.construct import relabel
from notbugs.data import Data, Images
from notbugs.search import PGDSteps
from notbugs.seeds import seeded

ALLOWED = 190 * 2**20  # bytes, beyond what Python and torch have taken once they are imported

CHILD = textwrap.dedent(
    """
    import json, re, resource, sys
    import pyarrow.parquet, PIL.Image, torch
    from notbugs.construct import export, verify
    import notbugs.construct as construct

    def taken():
        return 1024 * int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1])

    limit = taken() + int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        torch.zeros(int(sys.argv[3]) // 4 + 2**24)
        print("no limit")
    except RuntimeError:  # as it should be
        built = construct.open(sys.argv[1])
        rows = sum(len(part) for part in built.images.chunks())
        found = verify(sys.argv[1])
        for name in ("npz", "parquet"):
            export(sys.argv[1], f"{sys.argv[2]}/{name}", name)
        print(json.dumps({"rows": rows, "findings": list(map(str, found))}))
    """
)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what Linux says of a process")
def test_a_set_larger_than_memory(tmp_path):
    count = 1400
    shades = torch.arange(count) % 256  # one for each image: PNG files of noise would take long
    pixels = shades.to(torch.uint8)[:, None, None, None].expand(count, 3, 128, 128).contiguous()
    images = Images(pixels, torch.arange(count) % 2)
    with seeded(0):
        source = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 2)))
    built = relabel(
        source, Data("large", images, images.subset(slice(2)), ("a", "b")), tmp_path / "set", schedule=PGDSteps(1)
    )
    size = sum(file.stat().st_size for file in built.folder.glob("*.safetensors"))
    assert size > 1.3 * ALLOWED
    finished = subprocess.run(
        [sys.executable, "-c", CHILD, str(built.folder), str(tmp_path), str(ALLOWED)],
        env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},  # its own one reserves a gigabyte at once
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == {"rows": count, "findings": []}
