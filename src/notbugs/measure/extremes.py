"""The least and the greatest value that a feature takes in a ball around an image."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from notbugs.data import Images
from notbugs.measure.features import FeatureMap
from notbugs.measure.standard import Values
from notbugs.progress import Progress, silent
from notbugs.search import PGDSteps, search
from notbugs.shapes import Batch, PerSample
from notbugs.threat import Threat


def extremes(
    source: FeatureMap,
    images: Images,
    threat: Threat,
    schedule: PGDSteps,
    *,
    wanted: Bool[Tensor, " f"],
    batch: int = 500,
    progress: Progress = silent,
) -> tuple[Values, Values]:
    """The least and the greatest value of every `wanted` feature around every image, as far as a search finds them.

    Two searches a feature and image, `batch` of them side by side, on a frozen copy in its fastest form; what they
    found is judged by the map itself in fp32. Columns of features that are not wanted are 0.
    """
    fast = source.ready(images.shape, batch)
    numbers = wanted.nonzero().flatten()
    found = torch.zeros(2, len(images), len(wanted))
    total = 2 * len(images) * len(numbers)

    def objective(moved: Batch, number: Tensor, sign: PerSample) -> tuple[PerSample, PerSample]:
        value = sign * fast(moved).gather(1, number[:, None])[:, 0]
        return value, value.detach()

    for first in range(0, total, batch):
        which = torch.arange(first, min(first + batch, total))
        end, number, image = which % 2, numbers[which // 2 % len(numbers)], which // (2 * len(numbers))
        origin = images.batch(image)[0].to(source.device)
        goals = (number.to(source.device), (1.0 - 2.0 * end).to(source.device))
        with fast.evaluating():
            moved = search(objective, origin, goals, threat, schedule).images
        with torch.no_grad(), source.evaluating("fp32"):
            found[end, image, number] = source(moved).gather(1, goals[0][:, None])[:, 0].float().cpu()
        progress(first + len(which), total)
    return found[0], found[1]


def reach(weight: Float[Tensor, "f c h w"], threat: Threat) -> Float[Tensor, " f"]:
    """How far an affine feature moves at most: the radius times the dual norm of its weight, the box [0, 1] ignored."""
    return threat.eps * threat.dual(weight).double()
