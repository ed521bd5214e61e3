"""foolbox; adversarial training is a plain loop around its PGD, as it has none."""

from __future__ import annotations

from collections.abc import Callable

import foolbox as fb
from torch import Tensor

from benchmarks.search.loops import Batchwise, Setting, batchwise, training_loop


def versions() -> dict[str, str]:
    """Of foolbox."""
    return {"foolbox": fb.__version__}


def attack(setting: Setting, method: fb.attacks.base.Attack, eps: float | None) -> Batchwise:
    """One batch through `method`; a radius of None minimises the norm."""
    task = setting.task

    def find(images: Tensor, classes: Tensor) -> Tensor:
        criterion = fb.criteria.TargetedMisclassification if task.targeted else fb.criteria.Misclassification
        _, found, _ = method(model, images, criterion(classes), epsilons=eps)
        return found

    model = fb.PyTorchModel(setting.model, bounds=(0, 1), device=setting.device)
    return find


def pgd(setting: Setting) -> Batchwise:
    """PGD without a random start."""
    task = setting.task
    method = fb.attacks.L2PGD if task.norm == "l2" else fb.attacks.LinfPGD
    return attack(setting, method(abs_stepsize=task.step_size, steps=task.steps, random_start=False), task.eps)


def least(method: Callable[..., fb.attacks.base.Attack]) -> Callable[[Setting], Batchwise]:
    """A minimum-norm attack with as many steps as the task says."""
    return lambda setting: batchwise(setting, attack(setting, method(steps=setting.task.steps), None))


LEAST = {"DDN": least(fb.attacks.DDNAttack), "FMN": least(fb.attacks.L2FMNAttack)}
ATTACKS = {
    "pgd": {"PGD": lambda setting: batchwise(setting, pgd(setting))},
    "targeted": {"PGD": lambda setting: batchwise(setting, pgd(setting))},
    "minimum norm": LEAST,
    "targeted minimum norm": LEAST,
    "training": {"PGD": lambda setting: training_loop(setting, pgd(setting))},
}
