"""Standard and adversarial training, resumable bit for bit, and its loss."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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
from notbugs.files import LOG, Damaged, read_tensors, write_tensors
from notbugs.given import checked
from notbugs.outputs import PROBED
from notbugs.progress import Progress, silent
from notbugs.search import PGDSteps
from notbugs.search.attacks import worst_among, worst_appearance
from notbugs.search.loop import check_gradients_allowed, last
from notbugs.search.objectives import away_from
from notbugs.seeds import derive, generator, seeded
from notbugs.shapes import Labels, Logits
from notbugs.threat import check_radii
from notbugs.training import watching
from notbugs.training.settings import Training
from notbugs.training.together import pieces, together
from notbugs.training.watching import Best, Score, Trained, divided, guarded, is_guarded


def class_weights(labels: Labels) -> Float[Tensor, "*label class"]:
    """Weights with which every class counts the same: images / (classes * images of the class), so 1 on average.

    Classes without an image do not count. Of one label for an image, shape (class,). Of several, shape (label, 2): of
    lacking and of having each.
    """
    if labels.ndim == 2:
        having = labels.sum(0)
        counts = torch.stack([len(labels) - having, having], 1)
    else:
        counts = torch.bincount(labels)
    return len(labels) / ((counts > 0).sum(-1, keepdim=True) * counts.clamp_min(1))


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


CHECKPOINT_SECONDS = 15.0
RECOGNISED = 1000
"""Images, at most, by which a checkpoint knows those that it is of."""


class Diverged(InputError):
    """The loss of a training run is no longer finite."""


@checked
@torch.enable_grad()
def train(
    classifier: Classifier,
    images: Images,
    settings: Training | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    keep: bool = False,
    told: Callable[[Trained], None] = lambda trained: None,
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
        section 2: the search starts at the clean image, sees the classifier in evaluation mode, and its last iterate is
        learned from. If it has learned to
        withstand these steps and no others, their number is doubled (`guard`), which is looked at on images that are
        held out where there are 10,000 or more: 250 of them at most. Where `settings.patience` is set, training stops
        early, for which at most a tenth of the images are held out (`training.watching`). Where `settings.spatial` is
        set, every image is first turned and moved by the worst of some random transformations, likewise in evaluation
        mode; where `settings.appearance` is, its brightness, contrast, hue, blur and JPEG are then changed likewise, or
        by a gradient search.
    seed : int
        Order and augmentation of the images follow from it, and what dropout draws.
    checkpoint : Path, optional
        A file from which an interrupted run goes on, at the last epoch it finished, to the same bits. From a damaged
        one it begins anew, and says so.
    keep : bool
        Leave the checkpoint there at the end, for who then writes the classifier: until that is done, there is
        something to go on from. Else it is removed.
    told : callable
        Told at the end how it went: images held out, epochs done, and which was the best.
    progress : Progress
        Told after every batch.

    Raises
    ------
    Diverged
        If the loss stops being finite.
    InputError
        If the checkpoint belongs to another run, or there are too few images to hold out any.

    Examples
    --------
    >>> small = data.take(100, 50, seed=0)
    >>> trained = nb.train(nb.new_classifier(small, width=4), small.train, nb.Training(epochs=1))
    """
    check_gradients_allowed()
    if settings is not None and not isinstance(settings, Training):
        raise must("settings", "be notbugs.Training", settings, "Give nb.Training(epochs=1), for instance.")
    if not any(weights.requires_grad for weights in classifier.parameters()):
        remedy = "Call requires_grad_() of it, to train all of them."
        raise must("classifier", "have weights to train", "one whose weights are all frozen", remedy)
    plan = settings or Training()
    check_training(plan, images)
    if classifier.meaning is None:  # to find it out takes a pass more, which batch norm and dropout must not notice
        _first_loss(classifier, images)
    optimizer = _optimizer(classifier, plan)
    run = _run(plan, images, seed) if checkpoint else 0
    done, settings, best = _resume(checkpoint, run, classifier, optimizer, plan)  # the guard may have doubled the steps
    numbers, looked_at = divided(images, plan, seed)
    batches = -(-len(numbers) // settings.batch)
    saved = time.monotonic()
    resident = images.resident(classifier.device)
    weights = class_weights(images.labels[numbers]).to(classifier.device) if settings.balanced else None
    with together(classifier) as shared:
        while done < settings.epochs and not best.is_over(done, settings.patience):
            noise = seeded(seed, "noise", done, workers.rank())  # of dropout, which draws from torch's own generator
            with noise, _compiled(classifier, settings):
                loss = _epoch(classifier, shared, optimizer, resident, numbers, settings, weights, done, seed, progress)
            both = loss + _first_loss(classifier, resident)  # what the last step left has no loss yet
            if not torch.isfinite(both):
                raise Diverged(f"Training diverged in epoch {done + 1}: its loss is {float(both)}. Lower the 'lr'.")
            if settings.adversary:
                adversary = guarded(classifier, images, looked_at, settings.adversary, seed, done)
                settings = settings.model_copy(update={"adversary": adversary})
            done += 1
            if settings.patience:
                best.offer(done, watching.score(classifier, images.subset(looked_at), plan, seed), classifier)
            is_due = time.monotonic() - saved > CHECKPOINT_SECONDS and (keep or done < settings.epochs)
            if checkpoint and is_due and workers.rank() == 0:
                _save(checkpoint, run, classifier, optimizer, done, settings, best)
                saved = time.monotonic()
            progress(done * batches, settings.epochs * batches, _note(loss, settings, best))
    if best.weights:
        classifier.load_state_dict(best.weights)
    progress(settings.epochs * batches, settings.epochs * batches)
    workers.barrier()  # before the last worker is here, the checkpoint may still be needed
    if checkpoint and not keep and workers.rank() == 0:
        checkpoint.unlink(missing_ok=True)
    told(_trained(images, numbers, looked_at, plan, settings, done, best))
    return classifier.eval()


def check_training(settings: Training, images: Images, count: int | None = None) -> None:
    """Refuse settings that do not fit the size of the images, or their number; `count`, if only so many are taken.

    Raises
    ------
    InputError
        If images would be shifted out of sight, the adversary's ball holds every image, or there are too few for early
        stopping.
    """
    watching.check_patience(settings, len(images) if count is None else count)
    if settings.shift >= min(images.shape[1:]):
        raise must("shift", f"be below the {min(images.shape[1:])} pixels of an image's side", settings.shift)
    if settings.adversary:
        check_radii([settings.adversary.threat], images.shape)


def _optimizer(classifier: Classifier, settings: Training) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        classifier.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov and settings.momentum > 0,
        weight_decay=settings.weight_decay,
    )


def _trained(
    images: Images, numbers: Tensor, looked_at: Tensor, training: Training, settings: Training, done: int, best: Best
) -> Trained:
    """How it went."""
    adversary, is_stopped = training.adversary, bool(training.patience)
    is_watched = adversary is not None and is_guarded(adversary)
    labels = images.labels.shape[1] if images.has_several else 1
    return Trained(
        images=len(numbers),
        held_out=len(images) - len(numbers),
        epochs=done,
        steps=settings.adversary.steps if settings.adversary else None,
        guard_images=watching.to_guard_by(images, looked_at, adversary) if adversary and is_watched else 0,
        best_epoch=best.epoch if is_stopped else None,
        right=best.score.right if is_stopped else None,
        judged=labels * len(looked_at) if is_stopped else None,
        balanced=best.score.value if is_stopped and training.balanced else None,
    )


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


@torch.no_grad()
def _first_loss(classifier: Classifier, images: Images) -> Tensor:
    """Of the first few images, in evaluation mode."""
    inputs, labels = (tensor.to(classifier.device) for tensor in images.batch(slice(PROBED)))
    with classifier.evaluating():
        return summed_loss(classifier(inputs), labels)


class _Drawn:
    """What is random about a batch, for all workers' images: each takes its own."""

    def __init__(self, index: Tensor, settings: Training, draw: torch.Generator) -> None:
        self.index = index
        self.changes = settings.augmentation.draw(len(index), draw)
        self.tries = settings.spatial.draw(len(index), draw) if settings.spatial else None
        self.looks = settings.appearance.draw(len(index), draw) if settings.appearance else None


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
    # Searches go without their look at the labels, since it would wait for the device.
    if settings.spatial and drawn.tries is not None and len(labels):
        inputs = worst_among(classifier, classifier, inputs, labels, settings.spatial.threat, drawn.tries[piece])
    if (appearance := settings.appearance) and drawn.looks is not None and len(labels):
        looks = drawn.looks[piece]
        if appearance.steps:
            schedule = PGDSteps(appearance.steps, decay="linear")
            ranges, start = appearance.ranges, looks[:, 0]
            inputs = worst_appearance(classifier, classifier, inputs, labels, ranges, schedule, start)
        else:
            inputs = worst_among(classifier, classifier, inputs, labels, appearance.ranges, looks)
    if (adversary := settings.adversary) and len(labels):
        with classifier.evaluating():
            inputs = last(away_from(classifier), inputs, (labels,), adversary.threat, adversary.schedule)
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
        return settings.lr * 0.1 ** sum(step / steps >= share for share in settings.drops)
    rise = max(settings.warmup * steps, 1)
    return settings.lr * min((step + 1) / rise, (steps - step) / max(steps - rise, 1), 1.0)


def _note(loss: Tensor, settings: Training, best: Best) -> str:
    parts = [f"loss {float(loss):.3f}"]
    parts += [f"{settings.adversary.steps} inner steps"] if settings.adversary else []
    return ", ".join(parts + ([f"best epoch {best.epoch}"] if best.epoch else []))


def _run(settings: Training, images: Images, seed: int) -> int:
    """A number that another run, of other settings, images or another seed, does not have."""
    some = images.sample(RECOGNISED, seed, "checkpoint")
    return derive(seed, settings.model_dump_json(exclude_defaults=True), len(images), some.fingerprint)


def _save(
    path: Path,
    run: int,
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    settings: Training,
    best: Best,
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in classifier.state_dict().items()}
    for name, parameter in classifier.named_parameters():  # none without momentum, or of what no gradient reaches
        if (velocity := optimizer.state[parameter].get("momentum_buffer")) is not None:
            tensors[f"velocity.{name}"] = velocity
    steps = settings.adversary.steps if settings.adversary else 0
    tensors |= {f"best.{name}": tensor for name, tensor in best.weights.items()}
    numbers = {"epoch": epoch, "steps": steps, "best epoch": best.epoch, "best right": best.score.right}
    numbers |= {"gained": best.gained, "run": run}
    tensors["best score"] = torch.tensor(best.score.value, dtype=torch.double)
    write_tensors(path, tensors | {name: torch.tensor(number) for name, number in numbers.items()})


def _resume(
    checkpoint: Path | None, run: int, classifier: Classifier, optimizer: torch.optim.Optimizer, settings: Training
) -> tuple[int, Training, Best]:
    """How many epochs are done, the settings for the rest, as the guard may have added steps, and the best epoch."""
    if checkpoint and checkpoint.exists():
        try:
            return _read(checkpoint, run, classifier, optimizer, settings)
        except Damaged as error:
            LOG.warning(f"{error} The training starts from the beginning.")
    return 0, settings, Best()


def _read(
    path: Path, run: int, classifier: Classifier, optimizer: torch.optim.Optimizer, settings: Training
) -> tuple[int, Training, Best]:
    tensors = read_tensors(path)
    if int(tensors.get("run", run)) != run:  # checkpoints of older versions have none
        raise InputError(
            f"The checkpoint {path} belongs to another run: its settings, images or seed are others. "
            "Delete it to start again."
        )
    model, weights = (
        {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}
        for part in ("model.", "best.")
    )
    try:
        classifier.load_state_dict(model)
        for name, parameter in classifier.named_parameters():
            if (velocity := tensors.get(f"velocity.{name}")) is not None:
                optimizer.state[parameter]["momentum_buffer"] = velocity.to(parameter)
        epoch, steps = int(tensors["epoch"]), int(tensors["steps"])
        at, right = int(tensors["best epoch"]), int(tensors["best right"])
        gained = int(tensors.get("gained", at))  # checkpoints of older versions have none
        unknown = -1 if settings.balanced else right  # checkpoints of older versions have no score
        score = Score(right, float(tensors.get("best score", unknown)))
        best = Best(at, score, weights, gained) if settings.patience else Best()
    except (RuntimeError, KeyError) as error:
        raise InputError(f"The checkpoint {path} belongs to another classifier. Delete it to start again.") from error
    if (adversary := settings.adversary) and steps != adversary.steps:
        stronger = adversary.model_copy(update={"steps": steps, "step_size": None})
        settings = settings.model_copy(update={"adversary": stronger})
    return epoch, settings, best
