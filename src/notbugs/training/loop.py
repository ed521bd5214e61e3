"""Standard and adversarial training, resumable bit for bit; its loss, and its guard against catastrophic overfitting.

With one or two steps, adversarial training can end in a classifier that withstands just these steps and no other
attack (Wong, Rice and Kolter 2020). The sign is plain: more steps of the same search break most of what the training's
own steps leave. So the strong attack, by which robust accuracy is measured, goes on with what these leave. Its first
part is such a search. Its targeted part breaks much also of a sound classifier that is young in training, so that it
counts only where nearly nothing is left.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from notbugs import workers
from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import InputError, must
from notbugs.files import read_tensors, write_tensors
from notbugs.progress import Progress, silent
from notbugs.search import Attack, Attacked, pgd, worst_of
from notbugs.seeds import generator
from notbugs.shapes import Labels, Logits
from notbugs.training.settings import Adversary, Training
from notbugs.training.together import pieces, together


def class_weights(labels: Labels) -> Float[Tensor, "*label class"]:
    """Weights with which every class counts the same: images / (classes * images of the class), so 1 on average.

    Of one label for an image, shape (class,). Of several, shape (label, 2): of lacking and of having each.
    """
    if labels.ndim == 2:
        having = labels.sum(0)
        counts = torch.stack([len(labels) - having, having], 1)
    else:
        counts = torch.bincount(labels)
    return len(labels) / (counts.shape[-1] * counts.clamp_min(1))


def summed_loss(logits: Logits, labels: Labels, weights: Tensor | None = None) -> Tensor:
    """The sum over images of the cross-entropy; of several labels, of the mean over labels of the binary one.

    Parameters
    ----------
    logits : Tensor
        Shape (batch, class), or (batch, label).
    labels : Tensor
        Shape (batch,), or 0 and 1 of shape (batch, label).
    weights : Tensor, optional
        Of `class_weights`.
    """
    if labels.ndim == 1:
        if weights is None:
            return cross_entropy(logits, labels, reduction="sum")
        return (cross_entropy(logits, labels, reduction="none") * weights[labels]).sum()
    each = None if weights is None else torch.where(labels == 1, weights[:, 1], weights[:, 0])
    return binary_cross_entropy_with_logits(logits, labels.to(logits), each, reduction="sum") / labels.shape[1]


MOST_STEPS = 10
"""With so many steps of its own, training is not guarded."""
STRONG = Attack(targeted=1, queries=0)
COST = 60
"""Gradients for each image that the strong attack leaves, at most: 10, 5 and 40, with some to spare."""
BUDGET, FEWEST, MOST = 0.1, 48, 250
"""Share of an epoch's own gradients that the guard may cost, which decides the number of images; at least and at most.
"""
FIRST, ALL, SOME = 1 / 2, 1 / 20, 1 / 4
"""Shares of the images left by the training's own steps: the steps are doubled if the strong attack's first part leaves
less, or all of it less. The second counts only if the own steps leave at least so large a share of the images."""
LARGE, HELD = 10_000, 0.02
"""From so many training images on, the guard looks at images that are held out of training: at most so large a share.
With fewer, holding out enough of them would cost accuracy: it looks at training images, on which the overfitting shows
as well, because it is a failure of the few steps and not of generalisation."""


def held_out(images: Images, adversary: Adversary | None, seed: int) -> tuple[Tensor, Tensor]:
    """The numbers of the images to train on, in their order, and of those that the guard looks at."""
    everything = torch.arange(len(images))
    if adversary is None or not _is_guarded(adversary) or len(images) < LARGE:
        return everything, everything
    count = min(MOST, int(HELD * len(images)))
    order = torch.randperm(len(images), generator=generator(seed, "held out of training"))
    return order[count:].sort().values, order[:count].sort().values


def guarded(
    classifier: Classifier, images: Images, looked_at: Tensor, adversary: Adversary, seed: int, epoch: int
) -> Adversary:
    """The adversary to train with from now on: twice the steps if the strong attack leaves far less than its own.

    Seen on some of the images whose numbers are `looked_at`, drawn anew every epoch. `adversary` itself where it has
    ten steps or more, or is not guarded.
    """
    if not _is_guarded(adversary):
        return adversary
    count = min(MOST, max(FEWEST, int(BUDGET * len(images) * (adversary.steps + 1) / COST)))
    index = looked_at[torch.randperm(len(looked_at), generator=generator(seed, "guard", epoch))[:count]]
    some = images.subset(index)
    if some.has_several:  # each label is a binary problem: one after the other, an epoch each
        label = epoch % some.labels.shape[1]
        classifier, some = classifier.label(label), some.label(label)
    run = Attacked(classifier, some, [adversary.threat], seed=seed)
    run.by(Attack(name="pgd", steps=adversary.steps, step_size=adversary.step_size))
    own = len(run.standing(adversary.threat))
    run.by(STRONG)
    left_by_first = own - run.first(adversary.threat).get("log-odds", 0)
    is_broken = own >= SOME * len(index) and len(run.standing(adversary.threat)) < ALL * own
    if left_by_first >= FIRST * own and not is_broken:
        return adversary
    return adversary.model_copy(update={"steps": 2 * adversary.steps, "step_size": None})


def _is_guarded(adversary: Adversary) -> bool:
    return adversary.guard and adversary.steps < MOST_STEPS


CHECKPOINT_SECONDS = 15.0


class Diverged(InputError):
    """The loss of a training run is no longer finite."""


def train(
    classifier: Classifier,
    images: Images,
    settings: Training | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    keep: bool = False,
    progress: Progress = silent,
) -> Classifier:
    """Train `classifier` in place, and return it in evaluation mode.

    Several workers (see `workers.joined`) train one classifier, each on its part of every batch; all of them return
    it, and it is the one that a single worker would have trained, but for rounding.

    Parameters
    ----------
    classifier : Classifier
        Freshly initialised.
    images : Images
        The training images. With several labels for an image, each has a logit, and the loss is the mean over labels
        of the binary cross-entropy; the search of adversarial training lowers the probability that all are right.
    settings : Training, optional
        Standard training by default; adversarial where `settings.adversary` is set, as in the paper's
        section 2: the search starts at the clean image and sees the classifier in evaluation mode. If it has learned to
        withstand these steps and no others, their number is doubled (`guard`), which is looked at on images that are
        held out where there are 10,000 or more: 250 of them at most. Where `settings.spatial` is set, every
        image is first turned and moved by the worst of some random transformations, likewise in evaluation mode.
    seed : int
        Order and augmentation of the images follow from it.
    checkpoint : Path, optional
        A file from which an interrupted run goes on, at the last epoch it finished, to the same bits.
    keep : bool
        Leave the checkpoint there at the end, for who then writes the classifier: until that is done, there is
        something to go on from. Else it is removed.
    progress : Progress
        Told after every batch.

    Raises
    ------
    Diverged
        If the loss stops being finite.
    InputError
        If the checkpoint belongs to another run.

    Examples
    --------
    >>> small = data.take(100, 50, seed=0)
    >>> trained = nb.train(nb.new_classifier(small, width=4), small.train, nb.Training(epochs=1))
    """
    asked = settings = settings or Training()
    if settings.shift >= max(images.shape[1:]):
        raise must("shift", f"be below the {max(images.shape[1:])} pixels of an image's side", settings.shift)
    optimizer = torch.optim.SGD(
        classifier.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov and settings.momentum > 0,
        weight_decay=settings.weight_decay,
    )
    first = 0
    if checkpoint and checkpoint.exists():
        first, settings = _resume(checkpoint, classifier, optimizer, settings)
    numbers, looked_at = held_out(images, asked.adversary, seed)
    batches = -(-len(numbers) // settings.batch)
    saved = time.monotonic()
    given, images = images, images.resident(classifier.device)
    weights = class_weights(images.labels).to(classifier.device) if settings.balanced else None
    with _compiled(classifier, settings), together(classifier) as shared:
        for epoch in range(first, settings.epochs):
            loss = _epoch(classifier, shared, optimizer, images, numbers, settings, weights, epoch, seed, progress)
            if not torch.isfinite(loss):
                raise Diverged(f"Training diverged in epoch {epoch + 1}: its loss is {float(loss)}. Lower the 'lr'.")
            if settings.adversary:
                adversary = guarded(classifier, given, looked_at, settings.adversary, seed, epoch)
                settings = settings.model_copy(update={"adversary": adversary})
            is_due = time.monotonic() - saved > CHECKPOINT_SECONDS and (keep or epoch + 1 < settings.epochs)
            if checkpoint and is_due and workers.rank() == 0:
                _save(checkpoint, classifier, optimizer, epoch + 1, settings)
                saved = time.monotonic()
            progress((epoch + 1) * batches, settings.epochs * batches, _note(loss, settings))
    workers.barrier()  # before the last worker is here, the checkpoint may still be needed
    if checkpoint and not keep and workers.rank() == 0:
        checkpoint.unlink(missing_ok=True)
    return classifier.eval()


@contextmanager
def _compiled(classifier: Classifier, settings: Training) -> Iterator[None]:
    """The network compiled in place, where the classifier says so: its names and weights stay as they are.

    Not to train adversarially: a compiled backward pass has the gradients of all weights in every step of the search.
    """
    if not classifier.try_compiled or settings.adversary:
        yield
        return
    network = classifier.network
    network.forward = torch.compile(network.forward)  # `network.compile()` leaves an nn.Sequential as it is
    try:
        yield
    finally:
        del network.forward


def _epoch(
    classifier: Classifier,
    shared: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Images,
    numbers: Tensor,
    settings: Training,
    weights: Tensor | None,
    epoch: int,
    seed: int,
    progress: Progress,
) -> Tensor:
    """One pass over the images of these numbers; the mean loss over this worker's, not yet waited for."""
    draw = generator(seed, "epoch", epoch)
    batches = list(_batches(numbers, settings.batch, draw))
    total = torch.zeros((), device=classifier.device)
    classifier.train()
    for number, index in enumerate(batches):
        step = epoch * len(batches) + number
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, step, settings.epochs * len(batches))
        drawn = _Drawn(index, settings, draw)
        optimizer.zero_grad(set_to_none=True)
        mine = pieces(index, settings.microbatch)
        for piece in mine:
            # Workers' gradients are averaged once for every batch: with those of its last piece.
            wait = getattr(shared, "no_sync", nullcontext) if piece is not mine[-1] else nullcontext
            with wait():
                loss = _loss(classifier, shared, images, settings, weights, drawn, piece)
                loss.backward()
            total += loss.detach()
        optimizer.step()
        progress(step + 1, settings.epochs * len(batches))
    return total / len(batches)


class _Drawn:
    """What is random about a batch, for all workers' images: each takes its own."""

    def __init__(self, index: Tensor, settings: Training, draw: torch.Generator) -> None:
        self.index = index
        self.changes = settings.augmentation.draw(len(index), draw)
        self.tries = settings.spatial.draw(len(index), draw) if settings.spatial else None


def _loss(
    classifier: Classifier,
    shared: nn.Module,
    images: Images,
    settings: Training,
    weights: Tensor | None,
    drawn: _Drawn,
    piece: slice,
) -> Tensor:
    """The share of a piece of a batch in the batch's mean loss, on the images that the classifier is to learn."""
    index = drawn.index[piece].to(images.labels.device, non_blocking=True)
    inputs, labels = (tensor.to(classifier.device, non_blocking=True) for tensor in images.batch(index))
    inputs = settings.augmentation.apply(inputs, drawn.changes[piece])
    if settings.spatial and drawn.tries is not None and len(labels):
        inputs = worst_of(classifier, inputs, labels, settings.spatial.threat, drawn.tries[piece])
    if (adversary := settings.adversary) and len(labels):
        inputs = pgd(classifier, inputs, labels, adversary.threat, adversary.schedule).images
    # Workers' gradients are averaged: of a sum, weighted so that the average is the mean over the whole batch.
    return summed_loss(shared(inputs), labels, weights) * (workers.count() / len(drawn.index))


def _batches(numbers: Tensor, size: int, draw: torch.Generator) -> Iterator[Tensor]:
    """Random order; a last batch of one image, which batch norm cannot take, joins the one before it."""
    count = len(numbers)
    order = numbers[torch.randperm(count, generator=draw)]
    cuts = list(range(size, count, size))
    if cuts and count - cuts[-1] == 1:
        cuts.pop()
    return iter(torch.tensor_split(order, cuts))


def learning_rate(settings: Training, step: int, steps: int) -> float:
    """The learning rate of step number `step` of `steps`: a straight rise, then a straight fall to 0; or its drops.

    Examples
    --------
    >>> nb.training.learning_rate(nb.Training(lr=0.1, drops=(0.5,)), step=6, steps=10) < 0.1
    True
    """
    if settings.drops:
        return settings.lr * 0.1 ** sum(step >= share * steps for share in settings.drops)
    rise = max(settings.warmup * steps, 1)
    return settings.lr * min((step + 1) / rise, (steps - step) / max(steps - rise, 1), 1.0)


def _note(loss: Tensor, settings: Training) -> str:
    return f"loss {float(loss):.3f}" + (f", {settings.adversary.steps} inner steps" if settings.adversary else "")


def _save(path: Path, classifier: Classifier, optimizer: torch.optim.Optimizer, epoch: int, settings: Training) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in classifier.state_dict().items()}
    for name, parameter in classifier.named_parameters():
        tensors[f"velocity.{name}"] = optimizer.state[parameter]["momentum_buffer"]
    steps = settings.adversary.steps if settings.adversary else 0
    write_tensors(path, tensors | {"epoch": torch.tensor(epoch), "steps": torch.tensor(steps)})


def _resume(
    path: Path, classifier: Classifier, optimizer: torch.optim.Optimizer, settings: Training
) -> tuple[int, Training]:
    """How many epochs are done, and the settings for the rest: the guard may have added steps."""
    tensors = read_tensors(path)
    model = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    try:
        classifier.load_state_dict(model)
        for name, parameter in classifier.named_parameters():
            optimizer.state[parameter]["momentum_buffer"] = tensors[f"velocity.{name}"].to(parameter)
        epoch, steps = int(tensors["epoch"]), int(tensors["steps"])
    except (RuntimeError, KeyError) as error:
        raise InputError(f"The checkpoint {path} belongs to another classifier. Delete it to start again.") from error
    if (adversary := settings.adversary) and steps != adversary.steps:
        stronger = adversary.model_copy(update={"steps": steps, "step_size": None})
        settings = settings.model_copy(update={"adversary": stronger})
    return epoch, settings
