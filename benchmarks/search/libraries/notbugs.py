"""Ours, through the public API alone, in the precision that is automatic on this device."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

import notbugs as nb
from benchmarks.search.loops import Batchwise, Setting, batchwise
from benchmarks.search.tasks import Task


def versions() -> dict[str, str]:
    """Of notbugs."""
    return {"notbugs": nb.__version__}


def classifier(setting: Setting, precision: str) -> nb.Classifier:
    """The model as a `Classifier`."""
    mean, std = (values.flatten().tolist() for values in (setting.model.mean, setting.model.std))
    wrapped = nb.Classifier(setting.model.network, mean=mean, std=std, precision=precision)
    return wrapped.to(setting.device).eval()


def threat(task: Task) -> nb.Threat:
    """The task's threat model."""
    return nb.L2(task.eps) if task.norm == "l2" else nb.Linf(task.eps)


def pgd(setting: Setting, precision: str) -> Batchwise:
    """`nb.pgd`, or `nb.targeted_pgd` where the task has targets."""
    task, model = setting.task, classifier(setting, precision)
    attack = nb.targeted_pgd if task.targeted else nb.pgd
    schedule = nb.Schedule(task.steps, task.step_size)
    return batchwise(setting, lambda x, y: attack(model, x, y, threat(task), schedule).images)


def minimum_norm(setting: Setting, precision: str) -> Batchwise:
    """`nb.minimum_norm`, with as many steps as the others take."""
    task, model = setting.task, classifier(setting, precision)
    schedule = nb.Shrinking(task.steps)
    return batchwise(
        setting, lambda x, y: nb.minimum_norm(model, x, y, task.norm, schedule, targeted=task.targeted).images
    )


def matching(setting: Setting, precision: str) -> Batchwise:
    """`nb.match_features` with `nb.fast_matching`."""
    model, schedule = classifier(setting, precision), nb.fast_matching(setting.shape, setting.task.steps)
    return batchwise(setting, lambda x, guide: nb.match_features(model, x, guide, schedule).images)


def training(setting: Setting, precision: str) -> Batchwise:
    """`nb.train`, adversarially, for one epoch."""
    task, model = setting.task, classifier(setting, precision)
    adversary = nb.Adversary(norm=task.norm, eps=task.eps, steps=task.steps, step_size=task.step_size)
    settings = nb.Training(epochs=1, batch=setting.batch, lr=task.lr, adversary=adversary)

    def epoch(images: Tensor, labels: Tensor) -> Tensor:
        nb.train(model, nb.Images(images.cpu(), labels.cpu()), settings)
        return images

    return epoch


def attacks(precision: str) -> dict[str, dict[str, Callable[[Setting], Batchwise]]]:
    """Everything ours offers, in one precision."""
    least: dict[str, Callable[[Setting], Batchwise]] = {
        "minimum norm": lambda setting: minimum_norm(setting, precision)
    }
    return {
        "pgd": {"PGD": lambda setting: pgd(setting, precision)},
        "targeted": {"PGD": lambda setting: pgd(setting, precision)},
        "minimum norm": least,
        "targeted minimum norm": least,
        "matching": {"fast": lambda setting: matching(setting, precision)},
        "training": {"PGD": lambda setting: training(setting, precision)},
    }


ATTACKS = attacks("auto")
