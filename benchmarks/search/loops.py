"""What the libraries share: cutting into batches, and a plain training loop around an attack that has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.search.tasks import Task

Batchwise = Callable[[Tensor, Tensor], Tensor]
"""From images and what goes with them (labels, target classes, or images whose features to match) to images."""


class Normalised(nn.Module):
    """A network with its normalisation, as every library's own examples wrap it."""

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - self.mean) / self.std)


@dataclass(frozen=True)
class Setting:
    """What a library gets to prepare a task with: a contiguous fp32 model on its device, in evaluation mode."""

    task: Task
    model: Normalised
    batch: int
    classes: int
    shape: tuple[int, int, int]
    device: torch.device


def batches(setting: Setting, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors, batch by batch, in order."""
    return zip(*(tensor.split(setting.batch) for tensor in tensors), strict=True)


def batchwise(setting: Setting, attack: Batchwise) -> Batchwise:
    """Apply `attack` to one batch after another."""
    return lambda images, others: torch.cat([attack(*batch) for batch in batches(setting, images, others)])


def learning_rate(task: Task, step: int, steps: int) -> float:
    """A straight rise over a fifth of the steps, then a straight fall to 0."""
    rise = max(0.2 * steps, 1)
    return task.lr * min((step + 1) / rise, (steps - step) / max(steps - rise, 1), 1.0)


def sgd(setting: Setting) -> torch.optim.SGD:
    """The optimiser of adversarial training, the same in every library."""
    return torch.optim.SGD(
        setting.model.parameters(), lr=setting.task.lr, momentum=0.9, weight_decay=5e-4, nesterov=True
    )


def training_loop(setting: Setting, attack: Batchwise) -> Batchwise:
    """One pass over the images: attack in evaluation mode, then a step of SGD on what it found.

    What a user writes around a library that has attacks and no training. It returns nothing to judge but the model.
    """
    model, optimizer = setting.model, sgd(setting)

    def epoch(images: Tensor, labels: Tensor) -> Tensor:
        count = -(-len(images) // setting.batch)
        for number, (clean, truth) in enumerate(batches(setting, images, labels)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(setting.task, number, count)
            model.eval()
            found = attack(clean, truth)
            model.train()
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(model(found), truth).backward()
            optimizer.step()
        model.eval()
        return images

    return epoch
