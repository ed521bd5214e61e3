"""All work on a device that is not the CPU: nothing is left behind, and it ends as on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.device_script import WORKS

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.timeout(900)  # some twenty seconds of work, on a machine that may have other work


@pytest.fixture(scope="module")
def wrong(tmp_path_factory) -> dict[str, str]:
    """From each work to what went wrong, found in a process of its own: there torch has another accelerator."""
    out = tmp_path_factory.mktemp("device") / "wrong.json"
    finished = subprocess.run(
        [sys.executable, "-m", "tests.device_script", str(out)],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads(out.read_text(encoding="utf-8"))


def test_a_tensor_left_behind_is_found(wrong):
    assert "tensors of shape [(3,)] on the CPU" in wrong["a tensor left behind"]


@pytest.mark.parametrize("name", WORKS)
def test_it_ends_on_a_device_as_on_the_cpu(wrong, name):
    assert wrong[name] == ""
