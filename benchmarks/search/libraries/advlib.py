"""adv-lib: the strongest set of minimum-norm attacks, and PGD in l-inf."""

from __future__ import annotations

from importlib.metadata import version

from benchmarks.search.loops import Batchwise, Setting, batchwise
from benchmarks.search.shim import make_torchvision_importable

make_torchvision_importable()

from adv_lib import attacks  # noqa: E402


def versions() -> dict[str, str]:
    """Of adv-lib."""
    return {"adv-lib": version("adv-lib")}


def ddn(setting: Setting) -> Batchwise:
    """DDN without its rounding to 256 levels, which none of the others do."""
    task, model = setting.task, setting.model
    return batchwise(setting, lambda x, y: attacks.ddn(model, x, y, task.targeted, task.steps, levels=None))


def fmn(setting: Setting) -> Batchwise:
    """FMN."""
    task, model = setting.task, setting.model
    return batchwise(setting, lambda x, y: attacks.fmn(model, x, y, norm=2, targeted=task.targeted, steps=task.steps))


def pgd_linf(setting: Setting) -> Batchwise:
    """PGD in l-inf without a random start; adv-lib has none in l2, and none of ours is timed under that name."""
    task, model = setting.task, setting.model
    if task.norm != "linf":
        raise NotImplementedError("not offered: adv-lib has no PGD in l2")
    options = {"random_init": False, "absolute_step_size": task.step_size}
    return batchwise(
        setting, lambda x, y: attacks.pgd_linf(model, x, y, task.eps, task.targeted, task.steps, **options)
    )


LEAST = {"DDN": ddn, "FMN": fmn}
ATTACKS = {"pgd": {"PGD": pgd_linf}, "minimum norm": LEAST, "targeted minimum norm": LEAST}
