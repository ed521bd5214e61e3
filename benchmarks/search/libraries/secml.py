"""secml-torch, its native attacks. One attack has one target class, so a batch is attacked class by class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.search.loops import Batchwise, Setting, sgd
from benchmarks.search.shim import make_torchvision_importable

make_torchvision_importable()

from secmlt.adv.backends import Backends  # noqa: E402
from secmlt.adv.evasion.base_evasion_attack import BaseEvasionAttack  # noqa: E402
from secmlt.adv.evasion.ddn import DDN  # noqa: E402
from secmlt.adv.evasion.fmn import FMN  # noqa: E402
from secmlt.adv.evasion.perturbation_models import LpPerturbationModels  # noqa: E402
from secmlt.adv.evasion.pgd import PGD  # noqa: E402
from secmlt.defenses.adv_training.pytorch.adversarial_trainer import AdversarialTrainer  # noqa: E402
from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier  # noqa: E402

Make = Callable[[Setting, int | None], BaseEvasionAttack]


def versions() -> dict[str, str]:
    """Of secml-torch."""
    return {"secml-torch": version("secml-torch")}


def pgd(setting: Setting, target: int | None) -> BaseEvasionAttack:
    """PGD without a random start."""
    task = setting.task
    norm = LpPerturbationModels.L2 if task.norm == "l2" else LpPerturbationModels.LINF
    return PGD(
        norm, epsilon=task.eps, num_steps=task.steps, step_size=task.step_size, random_start=False, y_target=target,
        backend=Backends.NATIVE,
    )  # fmt: skip


def ddn(setting: Setting, target: int | None) -> BaseEvasionAttack:
    """DDN, with adv-lib's initial norm."""
    return DDN(setting.task.steps, eps_init=1.0, y_target=target, backend=Backends.NATIVE)


def fmn(setting: Setting, target: int | None) -> BaseEvasionAttack:
    """FMN."""
    return FMN(
        LpPerturbationModels.L2, num_steps=setting.task.steps, step_size=1.0, y_target=target,
        backend=Backends.NATIVE,
    )  # fmt: skip


def groups(setting: Setting, images: Tensor, classes: Tensor) -> Iterator[tuple[int | None, Tensor]]:
    """Target class and indices: all images where there is no target, else one group for each class."""
    if not setting.task.targeted:
        yield None, torch.arange(len(images))
        return
    for target in classes.unique().tolist():
        yield target, (classes == target).nonzero().flatten()


def attack(make: Make) -> Callable[[Setting], Batchwise]:
    """The attack that `make` makes, on a loader of batches for each group."""

    def prepare(setting: Setting) -> Batchwise:
        model = BasePyTorchClassifier(setting.model)

        def find(images: Tensor, classes: Tensor) -> Tensor:
            found = images.clone()
            for target, index in groups(setting, images, classes):
                loader = DataLoader(TensorDataset(images[index], classes[index]), batch_size=setting.batch)
                found[index] = torch.cat([part for part, _ in make(setting, target)(model, loader)]).to(found)
            return found

        return find

    return prepare


def training(setting: Setting) -> Batchwise:
    """`AdversarialTrainer`, for one epoch at a constant learning rate, attacking in training mode as it does."""
    trainer = AdversarialTrainer(sgd(setting), epochs=1)

    def epoch(images: Tensor, labels: Tensor) -> Tensor:
        loader = DataLoader(TensorDataset(images, labels), batch_size=setting.batch)
        trainer.train(BasePyTorchClassifier(setting.model), loader, pgd(setting, None))
        return images

    return epoch


LEAST = {"DDN": attack(ddn), "FMN": attack(fmn)}
ATTACKS = {
    "pgd": {"PGD": attack(pgd)},
    "targeted": {"PGD": attack(pgd)},
    "minimum norm": LEAST,
    "targeted minimum norm": LEAST,
    "training": {"PGD": training},
}
