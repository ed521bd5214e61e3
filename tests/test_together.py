"""Several workers under torchrun train what one would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from notbugs.files import read_tensors
from notbugs.training import together

ROOT = Path(__file__).parent.parent


def trained(
    out: Path, count: int, checkpoint: str = "-", status: int = 0, microbatch: int = 0
) -> dict[str, torch.Tensor]:
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"] if count > 1 else []
    command = [sys.executable, *launch, "-m", "tests.together_script", str(out), checkpoint, str(microbatch)]
    finished = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200
    )
    assert (finished.returncode != 0) == bool(status), finished.stderr[-3000:]
    return {} if status else read_tensors(out)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("alone") / "one.safetensors", 1)


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_workers_train_what_one_would(alone, count, tmp_path):
    """Adversarially, with batch norm, augmentation, and batches that do not divide evenly."""
    shared = trained(tmp_path / "many.safetensors", count)
    assert shared.keys() == alone.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(
            shared[name], tensor, rtol=2e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_workers_sum_the_gradients_of_their_pieces(tmp_path):
    """Without batch norm, of which every piece has its own statistics: what one worker trains with whole batches."""
    alone = trained(tmp_path / "one.safetensors", 1, microbatch=8)
    shared = trained(tmp_path / "many.safetensors", 2, microbatch=2)
    for name, tensor in alone.items():
        torch.testing.assert_close(shared[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
def test_interrupted_workers_go_on_to_the_same_bits(tmp_path):
    whole = trained(tmp_path / "whole.safetensors", 2)
    checkpoint = tmp_path / "checkpoint.safetensors"
    trained(tmp_path / "never.safetensors", 2, str(checkpoint), status=3)
    assert checkpoint.exists()
    checkpoint.with_suffix(".second").touch()
    resumed = trained(tmp_path / "resumed.safetensors", 2, str(checkpoint))
    assert not checkpoint.exists()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_one_worker_is_left_as_it_was(small):
    with together.together(small) as shared:
        assert shared is small
        assert any(isinstance(module, nn.BatchNorm2d) for module in small.modules())
    assert together.part(torch.arange(7)) == slice(0, 7)
