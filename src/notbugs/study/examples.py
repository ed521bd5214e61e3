"""A few images of every set, each with the way its search took, for the report."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from notbugs import workers
from notbugs.construct import ConstructedSet, starts_of
from notbugs.construct.builder import ready_for
from notbugs.data import Data
from notbugs.files import write_tensors
from notbugs.measure.likeness import SMALLEST, nearest_of_class, noticed, ssim
from notbugs.progress import Progress
from notbugs.search.attacks import matching_objective
from notbugs.search.loop import frames
from notbugs.search.objectives import targeted_ce
from notbugs.search.steps import FMN
from notbugs.seeds import generator
from notbugs.study.declaration import SetDeclaration
from notbugs.study.runner import Runner
from notbugs.study.sets import BY_NAME, SETS
from notbugs.threat import L2, l2_norm

FEWEST, MOST, VALUES = 12, 40, 125_000
"""Images in the gallery: as many as have so many pixel values in all, between these two."""
FRAMES = 5
"""Of each search, after its start."""

FURTHER_GALLERY, FURTHER_STAGE = "gallery-further.safetensors", "gallery-further"

Tensors = dict[str, Tensor]


def write_gallery(runner: Runner) -> None:
    """Write `gallery.safetensors`, once: row i of every tensor belongs to the same training image.

    `D` and `D.labels` are that image. Of every constructed set there are

    - `NAME` and `NAME.labels`: its version, and the label it trains with;
    - `NAME.start` and `NAME.start_labels`: the image its search started from;
    - `NAME.target`, of matched sets: the image whose features it has;
    - `NAME.size`, of relabelled sets, shape (image, 2): the l2 norm of its perturbation over the distance from the
      start to the nearest training image of its new class, and the share of pixels that change noticeably; not a number
      where it kept its label;
    - `NAME.alike`, of matched sets, shape (image, 2): its structural similarity to its start and to its target;
    - `NAME.success`, bool: whether the source gives it that label;
    - `NAME.steps`, shape (frame,), and `NAME.moved`, float16, shape (image, frame, channel, height, width): how far
      from its start the best image was that the search had met after so many steps; the last frame is the set's image;
    - `NAME.scores`, shape (image, 1 + frame): of the start and these: the cross-entropy of the target class, or the
      distance of the features to the target's as a share of their length.

    The last three are of the same search made again; sets of smallest perturbations go without them.
    """
    path = runner.folder.path / "gallery.safetensors"

    def work(progress: Progress) -> int:
        index = choose(runner.data, runner.seed)
        tensors = dict(zip(("D", "D.labels"), runner.data.train.batch(index), strict=True))
        for number, plan in enumerate(SETS, 1):
            of_set = _images(runner, plan, index) | _way(runner, plan, index)
            tensors |= {f"{plan.name}{name}": tensor for name, tensor in of_set.items()}
            progress(number, len(SETS))
        write_tensors(path, tensors)
        return len(index)

    runner.stage("gallery", "show how images were made", work, leaves=path, kind=int)
    if not path.exists() and workers.rank() == 0:
        with runner.folder.console.stage("repair the gallery") as progress:
            work(progress)


def write_further(runner: Runner) -> None:
    """Write `gallery-further.safetensors`, once: the same training images in the further sets.

    With all that `gallery.safetensors` has of a set but how its search went. Where starts are noise there are no
    `NAME.start_labels`.
    """
    path, plans = runner.folder.path / FURTHER_GALLERY, [BY_NAME[name] for name in runner.recipe.sets]

    def work(progress: Progress) -> list[str]:
        index = choose(runner.data, runner.seed)
        tensors = dict(zip(("D", "D.labels"), runner.data.train.batch(index), strict=True))
        for number, plan in enumerate(plans, 1):
            tensors |= {f"{plan.name}{name}": tensor for name, tensor in _images(runner, plan, index).items()}
            progress(number, len(plans))
        write_tensors(path, tensors)
        return [plan.name for plan in plans]

    def shown() -> list[str]:
        return runner.stage(FURTHER_STAGE, "show images of the further sets", work, leaves=path, kind=list[str])

    if shown() != [plan.name for plan in plans]:
        runner.folder.forget(FURTHER_STAGE, f"{path.name} lacks sets that were added.")
        shown()
    if not path.exists() and workers.rank() == 0:
        with runner.folder.console.stage("repair the gallery") as progress:
            work(progress)


def choose(data: Data, seed: int) -> Tensor:
    """Indices of training images: one of each class, and a second only after that.

    In the order of classes if they are few; else in random order, or those that a page has room for are the first.
    """
    labels = data.train.labels
    count = max(FEWEST, min(MOST, VALUES // math.prod(data.train.shape)))
    order = torch.randperm(len(labels), generator=generator(seed, "gallery"))
    rank = torch.stack([(labels[order[:place]] == labels[order[place]]).sum() for place in range(min(len(order), 400))])
    by_class = labels[order[: len(rank)]]
    is_in_order = len(labels.unique()) <= FEWEST
    first = sorted(range(len(rank)), key=lambda place: (int(rank[place]), int(by_class[place]) if is_in_order else 0))
    return order[first[:count]]


def _images(runner: Runner, plan: SetDeclaration, index: Tensor) -> Tensors:
    built, source = runner.set(plan.name), runner.classifier(plan.source)
    images, labels = built.images.batch(index)
    start, start_labels = starts_of(built.manifest["request"], runner.data.train)(built.start[index]), None
    if plan.start == "images":
        start_labels = runner.data.train.labels[built.start[index]]
    with torch.no_grad(), source.evaluating("fp32"):
        success = source(images.to(source.device)).argmax(1).cpu() == labels
    tensors = {"": images, ".labels": labels, ".start": start, ".success": success}
    tensors |= {} if start_labels is None else {".start_labels": start_labels}
    if not built.is_matched:
        return tensors | {".size": _sizes(runner, images, labels, start, start_labels)}
    target = _target(runner, built, index)
    measured = min(start.shape[2:]) >= SMALLEST
    alike = {".alike": torch.stack([ssim(images, start), ssim(images, target)], 1)} if measured else {}
    return tensors | {".target": target} | alike


def _sizes(runner: Runner, images: Tensor, labels: Tensor, start: Tensor, start_labels: Tensor | None) -> Tensor:
    distance, _ = nearest_of_class(start, labels, runner.data.train)
    share = torch.where(distance > 0, l2_norm(images - start) / distance, math.nan)  # 0: one image with two labels
    size = torch.stack([share, noticed(start, images)], 1)
    return size if start_labels is None else size.masked_fill((labels == start_labels)[:, None], math.nan)


def _way(runner: Runner, plan: SetDeclaration, index: Tensor) -> Tensors:
    """The search of the set again, for these images alone."""
    built, source = runner.set(plan.name), runner.classifier(plan.source)
    shape = runner.data.train.shape
    fast, _ = ready_for(source, runner.data.train, built.folder, len(index))
    (images, labels), (start, _) = built.images.batch(index), runner.data.train.batch(built.start[index])
    settings = plan.relabelling(runner.recipe.relabelling)
    schedule = runner.recipe.matching.schedule(shape) if built.is_matched else settings.schedule
    if isinstance(schedule, FMN):
        return {}
    at = [0, *_spread(schedule.steps)]
    with fast.evaluating():
        if built.is_matched:
            with torch.no_grad():
                goals = fast.features(_target(runner, built, index).to(fast.device))
            fake = runner.recipe.matching.fake_relu
            objective, ball = matching_objective(fast, start.to(fast.device), fake), L2(math.inf)
        else:
            objective, goals, ball = targeted_ce(fast), labels.to(fast.device), plan.threat(settings, shape)
        met, scores = frames(objective, start.to(fast.device), (goals,), ball, schedule, at)
    moved = met[:, 1:].cpu() - start[:, None]
    moved[:, -1] = images - start
    return {".steps": torch.tensor(at[1:]), ".moved": moved.half(), ".scores": scores.float()}


def _target(runner: Runner, built: ConstructedSet, index: Tensor) -> Tensor:
    return runner.data.train.batch(built.target[index])[0]


def _spread(steps: int) -> list[int]:
    """Numbers of steps from 1 to all, close together at first, where a search moves most."""
    return sorted({round(steps ** (frame / (FRAMES - 1))) for frame in range(FRAMES)})
