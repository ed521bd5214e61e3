"""The one hot loop: first-order search over inputs; and a search watched on its way.

Everything expensive in this library is this loop: PGD, targeted PGD, minimum-norm attacks and feature matching differ
only in their objective, threat model and steps. It has no randomness, never waits for the device, and touches neither
the weights nor their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from notbugs.errors import InputError, must
from notbugs.given import checked
from notbugs.search.steps import Samples, Steps, Walker
from notbugs.shapes import Batch, PerSample
from notbugs.threat import Threat

Objective = Callable[..., tuple[Tensor, Tensor]]
"""From images and goals (labels, or target features) to (loss, score), each of shape (batch,). The loop descends the
loss, and ranks iterates by the score, lower first. Each sample's loss must depend on that sample alone."""

CHUNK = 5
"""Steps between two looks at which samples are done."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes
    ----------
    images : Tensor
        Shape of the origin, in [0, 1] and inside the threat model.
    loss, score : Tensor
        Of `images`, shape (batch,). The search says what its score is: lower is better.
    forwards, backwards : int
        Passes through the classifier for each sample.
    is_margin : bool
        Whether the score is the margin of the label, as of `pgd`: below 0 the image is misclassified.

    Examples
    --------
    >>> found = nb.pgd(classifier, inputs, labels, nb.L2(0.5))
    >>> success = found.score < 0  # misclassified, for the score of `pgd` is the margin
    """

    images: Batch
    loss: PerSample
    score: PerSample
    forwards: int
    backwards: int
    is_margin: bool = False

    def __repr__(self) -> str:
        shape, count = tuple(self.images.shape), len(self.images)
        score = f"score from {self.score.min():.4g} to {self.score.max():.4g}"
        if self.is_margin:
            score = f"score below 0, misclassified under attack: {int((self.score < 0).sum())} of {count}"
        return (
            f"Found(images of shape {shape} on {self.images.device}; loss {self.loss.mean():.4g} on average; "
            f"{score}; {self.forwards} forwards, {self.backwards} backwards)"
        )


@torch.no_grad()
def last(objective: Objective, origin: Batch, goals: tuple[Tensor, ...], threat: Threat, steps: Steps) -> Batch:
    """Where `search` from `origin` ends, for training: nobody looks at the last iterate, or chooses the best of all.

    It takes a forward pass less than `search`, and does not wait for the device: the origin is not checked.
    """
    walker = steps.walker(threat, origin)
    samples = _begin(origin, goals, threat, walker, None)
    for _ in range(steps.steps):
        loss, _, gradient = _descent(objective, samples)
        _move(samples, threat, walker, loss, gradient)
    return samples["images"]


@checked
@torch.no_grad()
def search(
    objective: Objective,
    origin: Batch,
    goals: tuple[Tensor, ...],
    threat: Threat,
    steps: Steps,
    *,
    start: Batch | None = None,
    keep: Literal["best", "last"] = "best",
) -> Found:
    """Descend `objective` from `start`, inside the threat model around `origin` and inside [0, 1].

    Parameters
    ----------
    objective : callable
        From images and `goals` to per-sample (loss, score).
    origin : Tensor
        Images in [0, 1], shape (batch, channel, height, width): the centre of the threat model.
    goals : tuple of Tensor
        What the objective needs to know of every sample: first dimension the batch.
    threat : Threat
        Which perturbations of `origin` are valid.
    steps : Steps
        `PGDSteps`, `LBFGS` or `FMN`: how the search moves, and how often.
    start : Tensor, optional
        Where the search begins; `origin` by default. It is brought inside the threat model and [0, 1] first.
    keep : {"best", "last"}
        The iterate with the lowest score, each sample its own, or the last one.

    Raises
    ------
    InputError
        If `origin` is outside [0, 1], `start` has another shape, or the objective does not return a loss with a
        gradient and a score, each of shape (batch,).

    Examples
    --------
    >>> def dark(images, goal):
    ...     brightness = images.mean((1, 2, 3))
    ...     return brightness, brightness.detach()
    ...
    >>> found = nb.search.search(dark, inputs, (labels,), nb.L2(0.5), nb.search.PGDSteps(5))
    """
    _check(origin, start)
    walker = steps.walker(threat, origin)
    samples = _begin(origin, goals, threat, walker, start)
    for _ in range(steps.steps):
        _step(objective, samples, threat, walker)
    loss, score = _answer(objective, samples["images"], samples)
    _offer(samples, loss, score)
    images = samples["images"]
    if keep == "best":
        images, loss, score = samples["best"], samples["best_loss"], samples["best_score"]
    return Found(images, loss, score, forwards=steps.steps + 1, backwards=steps.steps)


def stream(
    objective: Objective,
    waiting: Iterable[tuple[Tensor, Tensor, tuple[Tensor, ...], Tensor | None]],
    threat: Threat,
    steps: Steps,
    *,
    batch: int,
) -> Iterator[tuple[Tensor, Found]]:
    """Search for a score below 0, for more samples than fit into a batch.

    A sample that got there leaves, and a waiting one takes its place; so does one that has used up its steps. Which
    samples shared a batch does not matter to what is found for each. It waits for the device only every `CHUNK` steps.

    Parameters
    ----------
    objective, threat, steps
        As in `search`.
    waiting : iterable of (numbers, origin, goals, start)
        The samples, some at a time; `numbers`, shape (some,), int64, tell them apart.
    batch : int
        How many are searched at once.

    Yields
    ------
    tuple of Tensor and Found
        The numbers of samples that left, and the best that was found for each. `forwards` and `backwards` count the
        most that any of them took.

    Examples
    --------
    >>> def dark(images, goal):
    ...     brightness = images.mean((1, 2, 3))
    ...     return brightness, brightness.detach()
    ...
    >>> waiting = [(torch.arange(20), inputs, (labels,), None)]
    >>> done = list(nb.search.stream(dark, waiting, nb.L2(0.5), nb.search.PGDSteps(2), batch=20))
    """
    queue = iter(waiting)
    pool: Samples = {}
    walker: Walker | None = None
    while True:
        while _size(pool) < batch and (fresh := next(queue, None)):
            numbers, origin, goals, start = fresh
            walker = walker or steps.walker(threat, origin)
            _check(origin, start)
            begun = _begin(origin, goals, threat, walker, start) | {"number": numbers.to(origin.device)}
            pool = _joined(pool, begun) if pool else begun
        if walker is None or not _size(pool):
            return
        active, rest = _where(pool, slice(batch)), _where(pool, slice(batch, None))
        done = _advance(objective, active, threat, walker, steps.steps)
        gone = _where(active, done.nonzero().flatten())  # numbers: a mask would wait for the device in every tensor
        if _size(gone):
            backwards = int(gone["age"].max())
            yield gone["number"], Found(gone["best"], gone["best_loss"], gone["best_score"], backwards + 1, backwards)
        pool = _joined(_where(active, (~done).nonzero().flatten()), rest)


@torch.no_grad()
def _advance(objective: Objective, samples: Samples, threat: Threat, walker: Walker, steps: int) -> Tensor:
    """Some steps, none beyond `steps` for any sample; which samples are done, shape (batch,), bool."""
    for _ in range(min(CHUNK, steps - int(samples["age"].max()))):
        _step(objective, samples, threat, walker)
    is_last = samples["age"] == steps
    index = is_last.nonzero().flatten()
    if len(index):  # nobody has looked at the last iterate of these yet
        last = _where(samples, index)
        _offer(last, *_answer(objective, last["images"], last))
        for name in ("best", "best_loss", "best_score"):
            samples[name][index] = last[name]
    return is_last | (samples["best_score"] < 0)


def _size(samples: Samples) -> int:
    return len(samples["age"]) if samples else 0


def _where(samples: Samples, index: Tensor | slice) -> Samples:
    return {name: values[index] for name, values in samples.items()}


def _joined(some: Samples, others: Samples) -> Samples:
    return {name: torch.cat([values, others[name]]) for name, values in some.items()}


def check_gradients_allowed() -> None:
    """Refuse to work where the caller forbids what `enable_grad` cannot allow again.

    Raises
    ------
    InputError
        Under `torch.inference_mode()`.
    """
    if torch.is_inference_mode_enabled():
        raise InputError(
            "Gradients are needed here, and torch.inference_mode() around this call forbids them. "
            "Leave that block first; what is measured needs none around it."
        )


def _begin(origin: Batch, goals: tuple[Tensor, ...], threat: Threat, walker: Walker, start: Batch | None) -> Samples:
    images = origin.clone() if start is None else threat.valid(start, origin)
    worst = torch.full((len(images),), math.inf, dtype=images.dtype, device=images.device)
    return {
        "images": images,
        "origin": origin,
        "age": torch.zeros(len(images), dtype=torch.int64, device=images.device),
        "best": images,
        "best_loss": worst,
        "best_score": worst,
        **{f"goal {number}": goal for number, goal in enumerate(goals)},
        **walker.begin(images),
    }


def _step(objective: Objective, samples: Samples, threat: Threat, walker: Walker) -> None:
    """One forward, one backward, one move."""
    loss, score, gradient = _descent(objective, samples)
    _offer(samples, loss, score)
    _move(samples, threat, walker, loss, gradient)


def _descent(objective: Objective, samples: Samples) -> tuple[PerSample, PerSample, Batch]:
    """Loss and score of every sample where it is, and the gradient of its loss."""
    with torch.enable_grad():
        leaf = samples["images"].detach().requires_grad_()
        loss, score = _answer(objective, leaf, samples)
        if not loss.requires_grad:
            rule, remedy = "return a loss that has a gradient", "Make it of the images, with torch alone."
            raise must("objective", rule, "one that was detached, or made of something else", remedy)
        # The sum, never the mean: a sample's gradient must not depend on the size of its batch.
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    return loss.detach(), score.detach(), gradient


def _move(samples: Samples, threat: Threat, walker: Walker, loss: PerSample, gradient: Batch) -> None:
    moved = walker.move(samples, loss, threat.confined(gradient))
    samples["images"] = threat.valid(moved, samples["origin"])
    samples["age"] = samples["age"] + 1


def _answer(objective: Objective, images: Batch, samples: Samples) -> tuple[PerSample, PerSample]:
    """The objective's loss and score: one number a sample, as anything else would be taken for all of them."""
    answer = objective(images, *_goals(samples))
    rule = f"return (loss, score), both of shape ({len(images)},) for {len(images)} images"
    if not (isinstance(answer, tuple | list) and len(answer) == 2 and all(isinstance(one, Tensor) for one in answer)):
        raise must("objective", rule, type(answer).__name__)
    for one in answer:
        if one.shape != (len(images),):
            raise must("objective", rule, f"a shape of {tuple(one.shape)}", "Give one number for each image, no mean.")
    return answer[0], answer[1]


def _offer(samples: Samples, loss: PerSample, score: PerSample) -> None:
    """Keep the image of every sample whose score is lower than its best so far."""
    better = score < samples["best_score"]
    samples["best_loss"] = torch.where(better, loss, samples["best_loss"])
    samples["best_score"] = torch.where(better, score, samples["best_score"])
    images = samples["images"]
    samples["best"] = torch.where(better.view(-1, *[1] * (images.dim() - 1)), images, samples["best"])


def _goals(samples: Samples) -> list[Tensor]:
    return [values for name, values in samples.items() if name.startswith("goal ")]


def _check(origin: Tensor, start: Tensor | None) -> None:
    """Refuse what cannot be searched from; the range of the images is waited for, once."""
    check_gradients_allowed()
    if start is not None and start.shape != origin.shape:
        raise must("start", f"have the shape of the origin, {tuple(origin.shape)}", tuple(start.shape))
    low, high = torch.aminmax(origin)  # once, before the loop
    if not (origin.is_floating_point() and bool((low >= 0) & (high <= 1))):
        raise InputError(
            f"The images must be floating point in [0, 1]. Got {origin.dtype} in [{float(low):g}, {float(high):g}] "
            "instead. Divide by 255, or give the classifier its normalisation and the search plain images."
        )


@checked
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

    Examples
    --------
    >>> def dark(images, goal):
    ...     brightness = images.mean((1, 2, 3))
    ...     return brightness, brightness.detach()
    ...
    >>> shown, scores = nb.search.frames(dark, inputs, (labels,), nb.L2(0.5), nb.search.PGDSteps(4), at=(0, 4))
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
