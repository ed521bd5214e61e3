"""Ours, through the public API alone, in the precision that is automatic on this device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import notbugs as nb
from benchmarks.search.loops import Batchwise, Setting, batches, batchwise
from benchmarks.search.tasks import Task
from notbugs.models.execution import ready
from notbugs.search import stream
from notbugs.search.objectives import away_from


def versions() -> dict[str, str]:
    """Of notbugs."""
    return {"notbugs": nb.__version__}


def classifier(setting: Setting, precision: str) -> nb.Classifier:
    """The model as a `Classifier`."""
    mean, std = (values.flatten().tolist() for values in (setting.model.mean, setting.model.std))
    wrapped = nb.Classifier(setting.model.network, mean=mean, std=std, precision=precision)
    return wrapped.to(setting.device).eval()


def frozen(setting: Setting, precision: str, *, compiled: bool = False) -> nb.Classifier:
    """The frozen copy on which `notbugs` runs every long search: folded, and compiled where that is asked for."""
    given = classifier(setting, precision)
    view, form = ready(given, setting.shape, batch=setting.batch)
    return ready(given, setting.shape, batch=setting.batch, form=f"{form} compiled")[0] if compiled else view


def threat(task: Task) -> nb.threat.Threat:
    """The task's threat model."""
    return nb.L2(task.eps) if task.norm == "l2" else nb.Linf(task.eps)


def pgd(setting: Setting, precision: str, *, compiled: bool = False) -> Batchwise:
    """`nb.pgd`, or `nb.targeted_pgd` where the task has targets."""
    if compiled and setting.device.type == "cpu":
        raise NotImplementedError("compiled forms are measured on a GPU")
    task, model = setting.task, frozen(setting, precision, compiled=compiled)
    attack = nb.targeted_pgd if task.targeted else nb.pgd
    schedule = nb.search.PGDSteps(task.steps, task.step_size)
    return batchwise(setting, lambda x, y: attack(model, x, y, threat(task), schedule).images)


def leaving(setting: Setting, precision: str) -> Batchwise:
    """The same, but misclassified images leave and others take their places, as in `nb.evaluate`."""
    task, model = setting.task, frozen(setting, precision)
    schedule = nb.search.PGDSteps(task.steps, task.step_size)

    def attack(images: Tensor, labels: Tensor) -> Tensor:
        numbers, found = torch.arange(len(images), device=images.device), torch.empty_like(images)
        waiting = ((n, x, (y,), None) for n, x, y in batches(setting, numbers, images, labels))
        with model.evaluating():
            for index, left in stream(away_from(model), waiting, threat(task), schedule, batch=setting.batch):
                found[index] = left.images
        return found

    return attack


def relabelling(setting: Setting, precision: str) -> Batchwise:
    """`nb.targeted_pgd` with `nb.search.fast_relabelling`, the default of `nb.relabel`."""
    model, ball = frozen(setting, precision), threat(setting.task)
    schedule = nb.search.fast_relabelling(ball)
    return batchwise(setting, lambda x, y: nb.targeted_pgd(model, x, y, ball, schedule).images)


def minimum_norm(setting: Setting, precision: str) -> Batchwise:
    """`nb.minimum_norm`, with as many steps as the others take."""
    task, model = setting.task, frozen(setting, precision)
    schedule = nb.search.FMN(task.steps)
    return batchwise(
        setting, lambda x, y: nb.minimum_norm(model, x, y, task.norm, schedule, targeted=task.targeted).images
    )


def matching(setting: Setting, precision: str) -> Batchwise:
    """`nb.match_features` with `nb.search.fast_matching`."""
    model, schedule = frozen(setting, precision), nb.search.fast_matching(setting.shape, setting.task.steps)
    return batchwise(setting, lambda x, guide: nb.match_features(model, x, guide, schedule).images)


def training(setting: Setting, precision: str) -> Batchwise:
    """`nb.train`, adversarially, for one epoch, without the guard that no other library has."""
    task, model = setting.task, classifier(setting, precision)
    adversary = nb.Adversary(norm=task.norm, eps=task.eps, steps=task.steps, step_size=task.step_size, guard=False)
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
        "pgd": {
            "PGD": lambda setting: pgd(setting, precision),
            "PGD, finished images leave": lambda setting: leaving(setting, precision),
            "PGD, compiled": lambda setting: pgd(setting, precision, compiled=True),
        },
        "targeted": {
            "PGD": lambda setting: pgd(setting, precision),
            "fast": lambda setting: relabelling(setting, precision),
        },
        "minimum norm": least,
        "targeted minimum norm": least,
        "matching": {"fast": lambda setting: matching(setting, precision)},
        "training": {"PGD": lambda setting: training(setting, precision)},
    }


ATTACKS = attacks("auto")
