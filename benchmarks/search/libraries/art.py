"""The Adversarial Robustness Toolbox: numpy in, numpy out, batches of its own.

Its Carlini and Wagner attack, the only one that minimises the norm towards a target, is left out: with its defaults it
takes over a thousand gradients an image, thirty times what the others get, and still fails on a third of the images.
"""

from __future__ import annotations

import art
import numpy as np
import torch
from art.attacks.evasion import DeepFool, FeatureAdversariesPyTorch
from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_pytorch import (
    ProjectedGradientDescentPyTorch,
)
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from benchmarks.search.loops import Batchwise, Normalised, Setting, sgd

ADAM_LR = 0.01


def versions() -> dict[str, str]:
    """Of ART."""
    return {"adversarial-robustness-toolbox": art.__version__}


class Normalise(nn.Module):
    """The model's normalisation as a layer: ART finds layers in an `nn.Sequential` alone."""

    def __init__(self, model: Normalised) -> None:
        super().__init__()
        self.model = [model]  # not registered a second time

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.model[0].mean) / self.model[0].std


def estimator(setting: Setting) -> PyTorchClassifier:
    """The model, wrapped."""
    return PyTorchClassifier(
        nn.Sequential(Normalise(setting.model), *setting.model.network),
        loss=nn.CrossEntropyLoss(),
        optimizer=sgd(setting),
        input_shape=setting.shape,
        nb_classes=setting.classes,
        clip_values=(0.0, 1.0),
        device_type="gpu" if setting.device.type == "cuda" else "cpu",
    )


def through_numpy(generate) -> Batchwise:
    """`generate` with its arrays turned from and into tensors, as a user of torch has to."""

    def attack(images: Tensor, others: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(generate(images.cpu().numpy(), y=others.cpu().numpy())))

    return attack


def descent(setting: Setting, wrapped: PyTorchClassifier) -> ProjectedGradientDescentPyTorch:
    """PGD without a random start."""
    task = setting.task
    norm = 2 if task.norm == "l2" else np.inf
    return ProjectedGradientDescentPyTorch(
        wrapped, norm=norm, eps=task.eps, eps_step=task.step_size, max_iter=task.steps, targeted=task.targeted,
        batch_size=setting.batch, verbose=False,
    )  # fmt: skip


def pgd(setting: Setting) -> Batchwise:
    """PGD."""
    return through_numpy(descent(setting, estimator(setting)).generate)


def deepfool(setting: Setting) -> Batchwise:
    """DeepFool, which takes a gradient of every class in every step."""
    method = DeepFool(estimator(setting), max_iter=setting.task.steps, batch_size=setting.batch, verbose=False)
    return through_numpy(method.generate)


def matching(setting: Setting) -> Batchwise:
    """`FeatureAdversariesPyTorch` with Adam, free within [0, 1], on the input of the last layer."""
    wrapped = estimator(setting)
    method = FeatureAdversariesPyTorch(
        wrapped, delta=1.0, optimizer=torch.optim.Adam, optimizer_kwargs={"lr": ADAM_LR},
        layer=wrapped.layer_names[-2], max_iter=setting.task.steps, batch_size=setting.batch, verbose=False,
    )  # fmt: skip
    return through_numpy(method.generate)


def training(setting: Setting) -> Batchwise:
    """`AdversarialTrainer` on attacked images alone, for one epoch, at a constant learning rate."""
    wrapped = estimator(setting)
    trainer = AdversarialTrainer(wrapped, descent(setting, wrapped), ratio=1.0)

    def epoch(images: Tensor, labels: Tensor) -> Tensor:
        trainer.fit(images.cpu().numpy(), labels.cpu().numpy(), batch_size=setting.batch, nb_epochs=1)
        return images

    return epoch


ATTACKS = {
    "pgd": {"PGD": pgd},
    "targeted": {"PGD": pgd},
    "minimum norm": {"DeepFool": deepfool},
    "matching": {"FeatureAdversaries": matching},
    "training": {"PGD": training},
}
