"""The processes that share the work: one, or those that torchrun started."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from notbugs.errors import InputError


def rank() -> int:
    """The number of this worker, from 0."""
    return dist.get_rank() if _together() else 0


def count() -> int:
    """How many workers there are."""
    return dist.get_world_size() if _together() else 1


def barrier() -> None:
    """Wait until every worker is here."""
    if _together():
        dist.barrier()


@contextmanager
def apart() -> Iterator[None]:
    """A block through which each worker goes on its own, and at whose end they wait for each other.

    If it fails in one of them, that one raises its error, and the others exit without a word.
    """
    try:
        yield
    except Exception:
        _any(True)
        raise
    if _any(False):
        raise SystemExit(1)


@contextmanager
def joined() -> Iterator[None]:
    """Inside the block, the processes that torchrun started are one another's workers; alone, nothing happens.

    Raises
    ------
    InputError
        If there are several processes and accelerate is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    try:
        from accelerate import PartialState
    except ImportError:
        raise InputError("Several processes need accelerate: pip install 'notbugs[scale]'.") from None
    # Takes each process to its own device. Shards and epochs differ in length, and workers wait for one another.
    PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=7))
    yield
    # Without these three, gloo now and then aborts a process that has finished (pytorch/pytorch#179291).
    gc.collect()
    barrier()
    dist.destroy_process_group()


def largest(value: int) -> int:
    """The largest of the values that the workers have; it waits for all."""
    if not _together():
        return value
    from accelerate import PartialState

    values = torch.tensor(value, device=PartialState().device)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return int(values)


def _any(flag: bool) -> bool:
    """Whether the flag of any worker is set; it waits for all."""
    return bool(largest(int(flag)))


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
