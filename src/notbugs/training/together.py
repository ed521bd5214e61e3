"""Training by several workers: the result of one worker, but for rounding.

Every worker takes its part of every batch. Gradients are averaged by accelerate (torch's DistributedDataParallel),
and batch norm takes its statistics over the whole batch: torch's own SyncBatchNorm does so on GPUs only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from notbugs import workers
from notbugs.classifier import Classifier
from notbugs.errors import InputError


@contextmanager
def together(classifier: Classifier) -> Iterator[nn.Module]:
    """The classifier as the training step calls it, its gradients and batch statistics shared by all workers."""
    if workers.count() == 1:
        yield classifier
        return
    norms = [module for module in classifier.modules() if isinstance(module, _BatchNorm)]
    own_classes = [module.__class__ for module in norms]
    for module in norms:
        module.__class__ = _SharedBatchNorm
    try:
        yield _accelerator().prepare_model(classifier, device_placement=False)
    finally:
        for module, own in zip(norms, own_classes, strict=True):
            module.__class__ = own


def part(index: Tensor) -> slice:
    """Which places of a batch's `index` are this worker's: neighbours, as many as the others have, or one more."""
    cuts = [number * len(index) // workers.count() for number in range(workers.count() + 1)]
    return slice(cuts[workers.rank()], cuts[workers.rank() + 1])


def pieces(index: Tensor, size: int | None) -> list[slice]:
    """This worker's places of a batch in pieces of at most `size`; every worker has as many pieces.

    One more where a piece would else be a single image, of which batch norm may have no statistics.
    """
    mine, longest = part(index), -(-len(index) // workers.count())
    number = -(-longest // (size or longest))
    if size and size > 1:
        number = max(1, min(number, longest // 2))
    cuts = [mine.start + piece * (mine.stop - mine.start) // number for piece in range(number + 1)]
    return [slice(*ends) for ends in pairwise(cuts)]


def _accelerator() -> Any:
    try:
        from accelerate import Accelerator
    except ImportError:
        raise InputError("Several processes need accelerate: pip install 'notbugs[scale]'.") from None
    return Accelerator()


class _Sum(torch.autograd.Function):
    """The sum over all workers, of values and of gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class _SharedBatchNorm(_BatchNorm):
    """Batch norm over the parts of all workers; an empty part is allowed."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        values = input.float()
        dims = [dim for dim in range(values.dim()) if dim != 1]
        size = torch.tensor(float(values.numel() // values.shape[1]), device=values.device)
        dist.all_reduce(size)
        mean = _Sum.apply(values.sum(dims)) / size
        centred = values - _along_channels(mean, values)
        variance = _Sum.apply(centred.square().sum(dims)) / size
        self._remember(mean.detach(), variance.detach() * size / (size - 1))
        scale = (variance + self.eps).rsqrt() * (1.0 if self.weight is None else self.weight)
        shift = torch.zeros_like(mean) if self.bias is None else self.bias
        return (centred * _along_channels(scale, values) + _along_channels(shift, values)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""


def _along_channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.dim() - 2))
