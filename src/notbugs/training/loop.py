"""Standard and adversarial training, resumable bit for bit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from notbugs import workers
from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import InputError
from notbugs.files import read_tensors, write_tensors
from notbugs.progress import Progress, silent
from notbugs.search import pgd, worst_of
from notbugs.seeds import generator
from notbugs.training.guard import guarded
from notbugs.training.settings import Training
from notbugs.training.together import part, together

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
        The training images.
    settings : Training, optional
        Standard training by default; adversarial where `settings.adversary` is set, as in the paper's
        section 2: the search starts at the clean image and sees the classifier in evaluation mode. If it has learned to
        withstand these steps and no others, their number is doubled (`guard`). Where `settings.spatial` is set, every
        image is first turned and moved by the worst of some random transformations, likewise in evaluation mode.
    seed : int
        Order and augmentation of the images follow from it.
    checkpoint : Path, optional
        A file from which an interrupted run goes on, at the last epoch it finished, to the same bits. It is removed
        at the end.
    progress : Progress
        Told after every batch.

    Raises
    ------
    Diverged
        If the loss stops being finite.
    InputError
        If the checkpoint belongs to another run.
    """
    settings = settings or Training()
    optimizer = torch.optim.SGD(
        classifier.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay,
    )
    first = 0
    if checkpoint and checkpoint.exists():
        first, settings = _resume(checkpoint, classifier, optimizer, settings)
    batches = -(-len(images) // settings.batch)
    saved = time.monotonic()
    with together(classifier) as shared:
        for epoch in range(first, settings.epochs):
            loss = _epoch(classifier, shared, optimizer, images, settings, epoch, seed, progress)
            if not torch.isfinite(loss):
                raise Diverged(f"Training diverged in epoch {epoch + 1}: its loss is {float(loss)}. Lower the 'lr'.")
            if settings.adversary:
                adversary = guarded(classifier, images, settings.adversary, seed, epoch)
                settings = settings.model_copy(update={"adversary": adversary})
            is_due = time.monotonic() - saved > CHECKPOINT_SECONDS and epoch + 1 < settings.epochs
            if checkpoint and is_due and workers.rank() == 0:
                _save(checkpoint, classifier, optimizer, epoch + 1, settings)
                saved = time.monotonic()
            progress((epoch + 1) * batches, settings.epochs * batches, _note(loss, settings))
    workers.barrier()  # before the last worker is here, the checkpoint may still be needed
    if checkpoint and workers.rank() == 0:
        checkpoint.unlink(missing_ok=True)
    return classifier.eval()


def _epoch(
    classifier: Classifier,
    shared: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Images,
    settings: Training,
    epoch: int,
    seed: int,
    progress: Progress,
) -> Tensor:
    """One pass; the mean loss over this worker's images, not yet waited for."""
    draw = generator(seed, "epoch", epoch)
    batches = list(_batches(len(images), settings.batch, draw))
    total = torch.zeros((), device=classifier.device)
    classifier.train()
    for number, index in enumerate(batches):
        step = epoch * len(batches) + number
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, step, settings.epochs * len(batches))
        changes, mine = settings.augmentation.draw(len(index), draw), part(index)
        inputs, labels = (tensor.to(classifier.device, non_blocking=True) for tensor in images.batch(index[mine]))
        inputs = settings.augmentation.apply(inputs, changes[mine])
        if spatial := settings.spatial:
            tries = spatial.draw(len(index), draw)[mine]  # for all workers' images: each takes its own
            inputs = worst_of(classifier, inputs, labels, spatial.threat, tries) if len(labels) else inputs
        if (adversary := settings.adversary) and len(labels):
            inputs = pgd(classifier, inputs, labels, adversary.threat, adversary.schedule).images
        # Workers' gradients are averaged: of a sum, weighted so that the average is the mean over the whole batch.
        weight = workers.count() / len(index)
        loss = cross_entropy(shared(inputs), labels, reduction="sum") * weight
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach()
        progress(step + 1, settings.epochs * len(batches))
    return total / len(batches)


def _batches(count: int, size: int, draw: torch.Generator) -> Iterator[Tensor]:
    """Random order; a last batch of one image, which batch norm cannot take, joins the one before it."""
    order = torch.randperm(count, generator=draw)
    cuts = list(range(size, count, size))
    if cuts and count - cuts[-1] == 1:
        cuts.pop()
    return iter(torch.tensor_split(order, cuts))


def learning_rate(settings: Training, step: int, steps: int) -> float:
    """The learning rate of step number `step` of `steps`: a straight rise, then a straight fall to 0."""
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
