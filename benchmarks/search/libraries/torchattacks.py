"""torchattacks; adversarial training is a plain loop around its PGD, as it has none."""

from __future__ import annotations

from collections.abc import Callable

import torchattacks as ta

from benchmarks.search.loops import Batchwise, Setting, batchwise, training_loop


def versions() -> dict[str, str]:
    """Of torchattacks."""
    return {"torchattacks": ta.__version__}


def attack(setting: Setting, method: ta.attack.Attack) -> Batchwise:
    """One batch through `method`."""
    if setting.task.targeted:
        method.set_mode_targeted_by_label(quiet=True)
    # A batch of a channels_last model's images would fail in its `view`.
    return lambda images, classes: method(images.contiguous(), classes)


def pgd(setting: Setting) -> Batchwise:
    """PGD without a random start."""
    task = setting.task
    method = ta.PGDL2 if task.norm == "l2" else ta.PGD
    return attack(
        setting, method(setting.model, eps=task.eps, alpha=task.step_size, steps=task.steps, random_start=False)
    )


def least(make: Callable[[Setting], ta.attack.Attack]) -> Callable[[Setting], Batchwise]:
    """A minimum-norm attack."""
    return lambda setting: batchwise(setting, attack(setting, make(setting)))


CW = least(lambda setting: ta.CW(setting.model, steps=setting.task.steps))
ATTACKS = {
    "pgd": {"PGD": lambda setting: batchwise(setting, pgd(setting))},
    "targeted": {"PGD": lambda setting: batchwise(setting, pgd(setting))},
    "minimum norm": {
        "CW": CW,
        "DeepFool": least(lambda setting: ta.DeepFool(setting.model, steps=setting.task.steps)),
    },
    "targeted minimum norm": {"CW": CW},
    "training": {"PGD": lambda setting: training_loop(setting, pgd(setting))},
}
