"""The floor: forward and input-backward, nothing else, as often as the task takes steps (twenty times at most).

`floor` runs as `notbugs` does, frozen and folded, channels_last, and in the precision that is automatic on this
device. Adversarial training is of the network as it is, and adds the forward and backward of the step on the weights,
without which there is none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.search.libraries.notbugs import classifier, frozen
from benchmarks.search.loops import Batchwise, Setting, batchwise

MOST = 20


def versions() -> dict[str, str]:
    """There is no library."""
    return {}


def passes(setting: Setting, model: nn.Module) -> Batchwise:
    """So many passes of `model` over every batch."""

    def run(images: Tensor, _: Tensor) -> Tensor:
        leaf = images.detach().requires_grad_()
        for _ in range(min(setting.task.steps, MOST)):
            torch.autograd.grad(model(leaf).sum(), leaf)
        return images

    return batchwise(setting, run)


def training(setting: Setting, model: nn.Module) -> Batchwise:
    """The passes of the search in evaluation mode, and one of the weights in training mode."""
    search = passes(setting, model)

    def run(images: Tensor, labels: Tensor) -> Tensor:
        model.eval()
        search(images, labels)
        model.train()
        model.zero_grad(set_to_none=True)
        cross_entropy(model(images), labels).backward()
        return images

    return batchwise(setting, run)


KINDS = ("pgd", "targeted", "minimum norm", "targeted minimum norm", "matching")
ATTACKS = {kind: {"passes": lambda setting: passes(setting, frozen(setting, "auto"))} for kind in KINDS}
ATTACKS["training"] = {"passes": lambda setting: training(setting, classifier(setting, "auto"))}
