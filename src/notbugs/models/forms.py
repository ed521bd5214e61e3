"""In which form a classifier's gradients are fastest, on this model and this device.

What decides bits goes by a rule, so that a job gives the same on every day: bf16 where the device multiplies it. The
rule guesses wrong in one place: grouped convolutions on a CPU are often slower in bf16. Only there is it measured,
once a job, and only a clear gain is taken. Compiled forms, with CUDA graphs, are measured where a classifier's
`try_compiled` asks for it: they cost half a minute to make, are seldom faster on a CPU, and no GPU has run them yet.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from notbugs import workers
from notbugs.classifier import Classifier, has_bf16
from notbugs.errors import check_choice
from notbugs.models.folding import frozen, shared
from notbugs.seeds import generator

FORMS = ("fp32", "bf16", "fp32 compiled", "bf16 compiled")
WARM_UP, ROUNDS, SECONDS = 3, 3, 0.2
"""Passes that are not timed (CUDA graphs are recorded in them); the fewest that are; and how long more are added."""
CLEAR = 0.8
"""Share of the rule's time below which another form is taken."""

log = logging.getLogger("notbugs")


@dataclass(frozen=True)
class Choice:
    """What was fastest.

    Attributes
    ----------
    form : {"fp32", "bf16", "fp32 compiled", "bf16 compiled"}
        The fastest.
    classifier : Classifier
        A frozen copy in this form.
    milliseconds : dict of str to float
        Of a forward pass and the gradient of its input, the median, for every form that worked.
    """

    form: str
    classifier: Classifier
    milliseconds: dict[str, float]

    def __str__(self) -> str:
        return ", ".join(f"{form} {value:.1f} ms" for form, value in self.milliseconds.items())


def ready(
    classifier: Classifier, shape: Sequence[int], *, batch: int, form: str | None = None
) -> tuple[Classifier, str]:
    """A frozen copy for a long search, in its fastest form, and the name of the form.

    Parameters
    ----------
    classifier : Classifier
        Left as it is; a precision other than "auto" is kept, and `try_compiled` adds a compiled form to the choice.
    shape : sequence of int
        Of an image: channel, height, width.
    batch : int
        Images searched at once.
    form : str, optional
        One of `FORMS`, if it is known already: a build that goes on keeps what it began with.
    """
    view = frozen(classifier, shape)
    if form is not None:
        return in_form(view, check_choice("form", form, FORMS), batch), form
    rule = _rule(view)
    doubts = _doubts(view, rule)
    if not doubts or workers.count() > 1:  # workers must not choose differently
        log.info("Searching in %s.", rule)
        return in_form(view, rule, batch), rule
    count = batch if view.try_compiled or view.device.type == "cuda" else min(batch, 32)
    images = torch.rand(count, *shape, generator=generator(0, "fastest")).to(view.device)
    choice = fastest(view, images, (rule, *doubts))
    clear = choice.milliseconds[choice.form] < CLEAR * choice.milliseconds[rule]
    form = choice.form if clear else rule
    log.info("Searching in %s (a gradient of %d images: %s).", form, count, choice)
    return (choice.classifier if clear else in_form(view, rule, batch)), form


def fastest(classifier: Classifier, images: Tensor, forms: Sequence[str] = ("fp32", "bf16")) -> Choice:
    """The form in which a forward pass and the gradient of its input take the least time.

    Parameters
    ----------
    classifier : Classifier
        Best one that is `frozen`. Left as it is.
    images : Tensor
        In [0, 1], shape (batch, channel, height, width); compiled forms are compiled for this shape.
    forms : sequence of str
        Of `FORMS`. The first must work; another that fails on this device is left out.
    """
    views, times = {}, {}
    for form in forms:
        try:
            views[form] = in_form(classifier, form, len(images))
            times[form] = [_seconds(views[form], images) for _ in range(WARM_UP)]
        except Exception as error:  # a compiler is missing, or cannot do this network
            if form == forms[0]:
                raise
            log.info("The form %s does not work here: %s", form, error)
            times.pop(form, None)
    began = time.perf_counter()
    while len(times[forms[0]]) < WARM_UP + ROUNDS or time.perf_counter() - began < SECONDS:
        for form, taken in times.items():
            taken.append(_seconds(views[form], images))
    milliseconds = {form: 1e3 * median(taken[WARM_UP:]) for form, taken in times.items()}
    best = min(milliseconds, key=milliseconds.__getitem__)
    return Choice(best, views[best], milliseconds)


def in_form(classifier: Classifier, form: str, batch: int) -> Classifier:
    """The same network in one of the `FORMS`; a compiled one is so for batches of exactly `batch` images."""
    precision, *is_compiled = form.split()
    view = shared(classifier)
    view.precision = check_choice("precision", precision, ("fp32", "bf16"))  # pyrefly: ignore
    if is_compiled:
        view.network = _Compiled(view.network, batch)
    return view


class _Compiled(nn.Module):
    """Replays CUDA graphs for batches of one size; others, and features, take the network as it is."""

    def __init__(self, network: nn.Module, batch: int) -> None:
        super().__init__()
        self._orig_mod, self.batch = network, batch  # the name by which torch.compile, too, keeps what it wraps
        self.replay: Callable[[Tensor], Tensor] = torch.compile(network, mode="reduce-overhead", dynamic=False)

    def forward(self, images: Tensor) -> Tensor:
        # A copy: the next replay writes its logits into the same memory.
        return self.replay(images).clone() if len(images) == self.batch else self._orig_mod(images)


def _rule(view: Classifier) -> str:
    if view.precision != "auto":
        return view.precision
    return "bf16" if has_bf16(view.device) and view.dtype == torch.float32 else "fp32"


def _doubts(view: Classifier, rule: str) -> list[str]:
    """The forms that may be faster than the rule's."""
    compiled = [f"{rule} compiled"] if view.try_compiled else []
    grouped = any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in view.network.modules())
    on_cpu = view.device.type == "cpu"
    plain = ["fp32"] if grouped and on_cpu and rule == "bf16" and view.precision == "auto" else []
    return plain + compiled


def _seconds(view: Classifier, images: Tensor) -> float:
    """Of one forward pass and the gradient of its input."""
    leaf = images.detach().clone().requires_grad_()
    _wait(images.device)
    began = time.perf_counter()
    with torch.enable_grad(), view.evaluating():
        view(leaf).logsumexp(1).sum().backward(inputs=[leaf])
    _wait(images.device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
