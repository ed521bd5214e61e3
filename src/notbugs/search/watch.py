"""The way of a search: the best images it had met after some of its steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from notbugs.search.loop import Objective, search
from notbugs.search.steps import Steps
from notbugs.shapes import Batch
from notbugs.threat import Threat


def frames(
    objective: Objective, origin: Batch, goals: tuple[Tensor, ...], threat: Threat, steps: Steps, at: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """What `search` would return if it ended after each number of steps in `at`, from one search.

    Parameters
    ----------
    objective, origin, goals, threat, steps
        As in `search`.
    at : sequence of int
        Numbers of steps, rising, from 0 (the origin) to all of them.

    Returns
    -------
    tuple of Tensor and Tensor
        Images of shape (batch, frame, channel, height, width), and their scores, shape (batch, frame).
    """
    watched = _Watched(objective, at)
    search(watched, origin, goals, threat, steps)
    return torch.stack(watched.images, 1), torch.stack(watched.scores, 1)


class _Watched:
    """Keeps the best images an objective was asked about: the loop asks before each step, and once at the end."""

    def __init__(self, objective: Objective, at: Sequence[int]) -> None:
        self.objective, self.at, self.asked = objective, at, 0
        self.images: list[Tensor] = []
        self.scores: list[Tensor] = []

    def __call__(self, images: Batch, *goals: Tensor) -> tuple[Tensor, Tensor]:
        loss, score = self.objective(images, *goals)
        self._offer(images.detach(), score.detach())
        if self.asked in self.at:
            self.images.append(self.best)
            self.scores.append(self.best_score)
        self.asked += 1
        return loss, score

    def _offer(self, images: Tensor, score: Tensor) -> None:
        if self.asked == 0:
            self.best, self.best_score = images, score
        better = score < self.best_score
        self.best = torch.where(better[:, None, None, None], images, self.best)
        self.best_score = torch.where(better, score, self.best_score)
