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
from notbugs.training import loop, together
from tests.together_script import main

ROOT = Path(__file__).parent.parent


Weights = dict[str, torch.Tensor]


def launched(count: int, *arguments: str, status: int = 0) -> None:
    """By `count` workers: one start, which takes longer than the trainings."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    command = [sys.executable, *launch, "-m", "tests.together_script", *arguments]
    finished = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200
    )
    assert (finished.returncode != 0) == bool(status), finished.stderr[-3000:]


def trained(folder: Path, count: int, microbatch: int) -> tuple[Weights, Weights]:
    """With batch norm, and by pieces without."""
    whole, pieces = folder / "whole.safetensors", folder / "pieces.safetensors"
    if count > 1:
        launched(count, str(whole), "-", "0", str(pieces), "-", str(microbatch))
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "CHECKPOINT_SECONDS", loop.CHECKPOINT_SECONDS)  # which the script changes
            main(str(whole), "-", "0")
            main(str(pieces), "-", str(microbatch))
    return read_tensors(whole), read_tensors(pieces)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("alone"), 1, microbatch=8)


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def shared(request, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("shared"), request.param, microbatch=2)


def test_workers_train_what_one_would(alone, shared):
    """Adversarially, with batch norm, augmentation, and batches that do not divide evenly."""
    assert shared[0].keys() == alone[0].keys()
    for name, tensor in alone[0].items():
        torch.testing.assert_close(
            shared[0][name], tensor, rtol=2e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_workers_sum_the_gradients_of_their_pieces(alone, shared):
    """Without batch norm, of which every piece has its own statistics: what one worker trains with whole batches."""
    for name, tensor in alone[1].items():
        torch.testing.assert_close(shared[1][name], tensor, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
def test_interrupted_workers_go_on_to_the_same_bits(tmp_path):
    names = ("whole", "checkpoint", "never", "resumed")
    whole, checkpoint, never, resumed = (tmp_path / f"{name}.safetensors" for name in names)
    launched(2, str(whole), "-", "0")
    launched(2, str(never), str(checkpoint), "0", status=3)
    assert checkpoint.exists()
    checkpoint.with_suffix(".second").touch()
    launched(2, str(resumed), str(checkpoint), "0")
    assert not checkpoint.exists()
    whole, resumed = read_tensors(whole), read_tensors(resumed)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_one_worker_is_left_as_it_was(small):
    with together.together(small) as shared:
        assert shared is small
        assert any(isinstance(module, nn.BatchNorm2d) for module in small.modules())
    assert together.part(torch.arange(7)) == slice(0, 7)
