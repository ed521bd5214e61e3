"""Attacks to evaluate with, by name: their settings, and images under attack at several radii."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from pydantic import Field, ValidationError, field_validator, model_validator
from torch import Tensor

from notbugs.classifier import Classifier, Precision
from notbugs.data import Images
from notbugs.errors import InputError, check_choice, check_count, must
from notbugs.models.execution import ready
from notbugs.progress import Progress, silent
from notbugs.records import Record
from notbugs.search.compatibility import check_finite
from notbugs.search.loop import Objective, stream
from notbugs.search.objectives import margin
from notbugs.search.steps import Decay, PGDSteps, Steps
from notbugs.seeds import generator
from notbugs.threat import Threat


class AttackSettings(Record):
    """All that an attack is told, wherever it is called from; and what a result says of it: `AttackUsed`."""

    name: str = Field("strong", description="Of the attack: strong, or pgd as in the paper.")
    steps: int = Field(40, ge=1, description="Gradients of its longest search.")
    step_size: float | None = Field(
        None,
        ge=0,
        description="Of the first step, pixel units; 2 eps of decaying steps if not given, else 2.5 eps / steps.",
    )
    decay: Decay = Field("linear", description="How the step falls to 0.")
    restarts: int = Field(1, ge=1, description="Searches away from the label; the first starts at the image.")
    targeted: int = Field(9, ge=0, description="Wrong classes that are each searched for; fewer where there are fewer.")
    queries: int = Field(1000, ge=0, description="For each image left where gradients look masked; 0: none.")

    def schedule(self, ball: Threat) -> PGDSteps:
        """Its steps inside `ball`."""
        return PGDSteps(self.steps, self.step_size, decay=self.decay)


class Attack(AttackSettings):
    """An attack by its name, and its settings. Those not given are the named attack's own.

    Raises
    ------
    InputError
        If no attack has this name.

    Examples
    --------
    >>> nb.search.Attack(name='pgd', steps=20).steps
    20
    """

    @field_validator("step_size")
    @classmethod
    def _moves(cls, value: float | None) -> float | None:
        if value == 0:  # what was used may have been 0, where the radius was
            raise ValueError("Input should be greater than 0")
        return value

    @model_validator(mode="before")
    @classmethod
    def _take_its_own(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = check_choice("attack", values.get("name", "strong"), ATTACKS)
        return ATTACKS[name].settings | values

    @classmethod
    def named(cls, given: str | Attack, **settings: Any) -> Attack:
        """The attack of this name, or the one given, with some other settings.

        Raises
        ------
        InputError
            If there is no such attack or setting.
        """
        if not isinstance(given, Attack):
            check_choice("attack", given, ATTACKS)
        own = given.model_dump() if isinstance(given, Attack) else {"name": given}
        for name in settings:
            check_choice("setting of the attack", name, cls.model_fields)
        try:
            return cls(**own | settings)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"The '{first['loc'][0]}' is wrong: {first['msg']}. Got {first['input']!r}.") from None


@dataclass(frozen=True)
class _Named:
    work: Callable[[Attacked, Attack], None]
    settings: dict[str, Any]


ATTACKS: dict[str, _Named] = {}
"""By name; `attack_named` adds to them.

Examples
--------
>>> 'strong' in nb.search.ATTACKS
True
"""


def attack_named(name: str, **settings: Any) -> Callable[[Callable[[Attacked, Attack], None]], Any]:
    """Register a function as an attack to evaluate with; `settings` are its defaults of `Attack`.

    The function gets the images under attack and the settings, and calls `Attacked.search`, or `Attacked.found`.

    Raises
    ------
    InputError
        If another attack has this name, there is no such setting, or the function does not take two arguments.

    Examples
    --------
    >>> @nb.search.attack_named('nothing')
    ... def nothing(attacked, asked):
    ...     pass
    ...
    >>> clean, attacked = nb.evaluate(classifier, images, radii=(0.5,), attack='nothing')
    >>> attacked.share == clean.share
    True
    """

    def register(work: Callable[[Attacked, Attack], None]) -> Callable[[Attacked, Attack], None]:
        own = ATTACKS.get(name)
        if own and (own.work.__module__, own.work.__qualname__) != (work.__module__, work.__qualname__):
            raise must("name of an attack", "be one that no other attack has", name)
        try:
            inspect.signature(work).bind(None, None)
        except TypeError:
            got = f"{work.__name__}{inspect.signature(work)}"
            raise must("attack", "be a function of the images under attack and of the settings", got) from None
        for setting in settings:
            check_choice("setting of the attack", setting, Attack.model_fields)
        ATTACKS[name] = _Named(work, {"name": name} | settings)
        return work

    return register


@dataclass
class Attacked:
    """Images under attack.

    Attributes
    ----------
    classifier, images
        What is attacked; labels are the true ones.
    balls : sequence of Threat
        In rising order.
    others : sequence of Classifier
        Whose adversarial examples may be tried, too.
    seed, batch
        Of random starts; images searched at once.
    broken : dict of str to Tensor
        By the part of the attack, the radius of the smallest ball in which it broke an image; infinite where it did
        not. Shape (n,).
    """

    classifier: Classifier
    images: Images
    balls: Sequence[Threat]
    others: Sequence[Classifier] = ()
    seed: int = 0
    batch: int = 250
    progress: Progress = silent
    broken: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_count("batch", self.batch)
        self.through: Callable[[Objective], Objective] | None = None
        # The ball in which an image was given up.
        self.settled = torch.full((len(self.images),), torch.inf, dtype=torch.float32)
        self.became = torch.full((len(self.images),), -1)  # the class it was last taken for; -1: nothing broke it yet
        self.clean = torch.cat(list(logits(self.classifier, self.images, self.batch)))
        self.correct = self.clean.argmax(1) == self.images.labels

    @cached_property
    def fast(self) -> Classifier:
        """A frozen copy in its fastest form: what it claims is judged by the classifier itself, in fp32."""
        return ready(self.classifier, self.images.shape, batch=self.batch)[0]

    def by(self, attack: Attack) -> None:
        """Attack them."""
        ATTACKS[attack.name].work(self, attack)

    @contextmanager
    def passing(self, through: Callable[[Objective], Objective]) -> Iterator[None]:
        """Inside the block, every search takes the gradients that `through` gives its objective; it counts as a part.

        It takes them through the classifier itself, in fp32.
        """
        self.through = through
        try:
            yield
        finally:
            self.through = None

    @property
    def radius(self) -> Tensor:
        """The radius of the smallest ball in which an image is broken: 0 where it is misclassified as it is."""
        smallest = torch.where(self.correct, torch.inf, 0.0).float()  # whatever torch makes of numbers by default
        for radius in self.broken.values():
            smallest = torch.minimum(smallest, radius)
        return smallest

    def standing(self, ball: Threat) -> Tensor:
        """The numbers of images that nothing broke yet, in this ball or a smaller one."""
        return (self.radius > ball.eps).nonzero().flatten()

    def first(self, ball: Threat) -> dict[str, int]:
        """How many images each part of the attack was the first to break, in this ball or a smaller one."""
        counts, open_ = {}, self.correct.clone()
        for part, radius in self.broken.items():
            by = open_ & (radius <= ball.eps)
            counts[part], open_ = int(by.sum()), open_ & ~by
        return counts

    def margin(self, numbers: Tensor) -> Tensor:
        """By how much the label's logit is above all others, of the images as they are, shape (len(numbers),)."""
        return margin(self.clean[numbers], self.images.labels[numbers])

    def likeliest_wrong(self, numbers: Tensor, count: int) -> Tensor:
        """The wrong classes with the largest logits of the images as they are, shape (len(numbers), count).

        The class that an image was taken for in another ball comes first.
        """
        scattered = self.clean[numbers].scatter(1, self.images.labels[numbers][:, None], -torch.inf)
        known = (self.became[numbers] >= 0).nonzero().flatten()
        scattered[known, self.became[numbers[known]]] = torch.inf
        return scattered.topk(min(count, scattered.shape[1] - 1)).indices

    def search(
        self,
        part: str,
        objective: Callable[[Classifier], Objective],
        numbers: Tensor,
        ball: Threat,
        steps: Steps,
        *,
        targets: Tensor | None = None,
        start: tuple[str, int] | None = None,
        exact: bool = False,
    ) -> Tensor:
        """Search from some images, until each is broken or has used its steps.

        An image leaves as soon as its fast form is broken; if the classifier itself, in fp32, does not confirm that,
        it is attacked there again.

        Parameters
        ----------
        part : str
            Of the attack, by name: what it breaks counts as its.
        objective : callable
            From a classifier to an objective of labels and, where they are given, targets; its score is the margin.
        numbers : Tensor
            Of the images, shape (k,); one may be there several times, for several targets.
        targets : Tensor, optional
            Shape (k,).
        start : tuple of str and int, optional
            A purpose of randomness: from random points of the ball, each image's its own, in place of the image.

        exact : bool
            Search with the classifier itself, in fp32, from the beginning.

        Returns
        -------
        Tensor
            The margin that is left, shape (k,): negative where the image was broken, infinite where no point was found
            that is better than the image itself.
        """
        left = torch.full((len(numbers),), torch.inf, dtype=torch.float32)
        rows = torch.arange(len(numbers))

        def waiting(rows: Tensor) -> Iterator[tuple[Tensor, Tensor, tuple[Tensor, ...], Tensor | None]]:
            for some in rows.split(self.batch) if len(rows) else ():
                inputs, labels = self.images.batch(numbers[some])
                begin = _random_start(inputs, numbers[some], ball, self.seed, *start) if start else None
                goals = (labels,) if targets is None else (labels, targets[some])
                device = self.classifier.device
                goals = tuple(goal.to(device) for goal in goals)
                yield some, inputs.to(device), goals, None if begin is None else begin.to(device)

        forms: list[tuple[Classifier, Precision]] = [(self.classifier, "fp32")]
        if self.through is not None:
            part, exact = self.through.__name__.replace("_", " "), True
        for searched, precision in ([] if exact else [(self.fast, self.fast.precision)]) + forms:
            unconfirmed, sought = [rows[:0]], objective(searched)
            sought = sought if self.through is None else self.through(sought)
            with searched.evaluating(precision):
                for some, result in stream(sought, waiting(rows), ball, steps, batch=self.batch):
                    some, claimed = some.cpu(), (result.score < 0).cpu()
                    broken = self.found(part, numbers[some], result.images, ball)
                    left[some] = torch.where(broken, -1.0, result.score.cpu().clamp_min(0).float())
                    stood = (~broken).nonzero().flatten()
                    if start is None and len(stood):
                        origin, _ = self.images.batch(numbers[some[stood]])
                        best = result.images[stood.to(result.images.device)].cpu()
                        is_still = (best == origin).flatten(1).all(1)
                        left[some[stood[is_still]]] = torch.inf
                    unconfirmed.append(some[claimed & ~broken])
            rows = torch.cat(unconfirmed)
        return left

    def found(self, part: str, numbers: Tensor, images: Tensor, ball: Threat) -> Tensor:
        """Judge images inside `ball`, in fp32, and note which of those at `numbers` they break; shape (k,), bool."""
        with torch.no_grad(), self.classifier.evaluating("fp32"):
            said = self.classifier(images).cpu()
        predicted = said.argmax(1)
        broken = (predicted != self.images.labels[numbers]) | said.isnan().any(1)
        unbroken = torch.full((len(self.images),), torch.inf, dtype=torch.float32)
        radius = self.broken.setdefault(part, unbroken)
        index = numbers[broken]
        radius[index] = radius[index].clamp_max(ball.eps)
        moved = predicted != self.images.labels[numbers]  # the largest of logits that are no numbers may be the label's
        self.became[numbers[moved]] = predicted[moved]
        self._tell()
        return broken

    def give_up(self, numbers: Tensor, ball: Threat) -> None:
        """Nothing more is tried on these images in `ball` and smaller ones."""
        self.settled[numbers] = self.settled[numbers].clamp_max(ball.eps)

    def _tell(self) -> None:
        """Of all pairs of an image and a ball, how many are settled."""
        radius = self.radius
        done = sum(int((radius <= ball.eps).sum()) for ball in self.balls)
        self.progress(min(done, len(self.images) * len(self.balls)), len(self.images) * len(self.balls))


def _random_start(inputs: Tensor, numbers: Tensor, ball: Threat, seed: int, purpose: str, run: int) -> Tensor:
    """The inputs, each moved at random in the ball; an image's start does not depend on the others."""
    draws = (generator(seed, purpose, run, ball.norm, ball.eps, number) for number in numbers.tolist())
    return torch.cat([one[None] + ball.start(one[None], draw) for one, draw in zip(inputs, draws, strict=True)])


def logits(
    classifier: Classifier, images: Images, batch: int, change: Callable[[Tensor], Tensor] = lambda images: images
) -> Iterator[Tensor]:
    """Of all images, a batch at a time, on the CPU, in fp32, after an optional `change` of the images."""
    for first in range(0, len(images), batch):
        inputs, _ = images.batch(slice(first, first + batch))
        with torch.no_grad(), classifier.evaluating("fp32"):
            answers = classifier(change(inputs).to(classifier.device)).cpu()
        check_finite(answers)
        yield answers
