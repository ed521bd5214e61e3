"""AutoAttack on many images, batch by batch, in a file from which it goes on after a kill.

The library attacks; whether an image is broken is judged here.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Callable, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.construct.builder import fingerprint
from notbugs.data import Images
from notbugs.errors import InputError, check_choice, check_count, must
from notbugs.files import read_tensors, write_tensors
from notbugs.given import checked
from notbugs.measure.accuracy import Accuracy, AttackUsed, Outcome, predictions
from notbugs.measure.statistics import Proportion
from notbugs.models.execution import ready
from notbugs.progress import Progress, silent
from notbugs.records import Record
from notbugs.search.compatibility import check_fits
from notbugs.seeds import derive
from notbugs.shapes import Batch, Labels
from notbugs.threat import Threat, check_radii

log = logging.getLogger("notbugs")


class Kept:
    """What became of images so far.

    Parameters
    ----------
    folder : Path or None
        Where it is kept, in a file named by `request`; None: nowhere.
    request : sequence
        Everything that the outcomes follow from. With another one nothing is taken up.
    survived : Tensor
        Shape (n,), bool: the images to attack. What is on disk comes before it, since on another machine a close call
        may fall otherwise.
    """

    def __init__(self, folder: Path | None, request: tuple[object, ...], survived: Tensor) -> None:
        digest = hashlib.sha256(repr(request).encode()).hexdigest()[:16]
        self.path = folder / f"{digest}.safetensors" if folder else None
        self.survived, self.index, self.done = survived, survived.nonzero().flatten(), 0
        if self.path and self.path.exists():
            tensors = read_tensors(self.path)
            self.survived, self.index, self.done = tensors["survived"], tensors["index"], int(tensors["done"])

    def attack(self, batch: int, survives: Callable[[Tensor], Tensor], progress: Progress) -> Tensor:
        """Which images survive in the end, shape (n,); `survives` is told the numbers of a batch of those left."""
        for part in self.index[self.done :].split(batch) if self.done < len(self.index) else ():
            self.survived[part] = survives(part)
            self.done += len(part)
            self._write()
            progress(self.done, len(self.index))
        return self.survived

    def _write(self) -> None:
        if self.path:
            tensors = {"survived": self.survived, "index": self.index, "done": torch.tensor(self.done)}
            write_tensors(self.path, tensors)


AttackName = Literal["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"]
STANDARD: tuple[AttackName, ...] = ("apgd-ce", "apgd-t", "fab-t", "square")
"""The ensemble whose robust accuracy the field reports."""
CLASSES = {"apgd-dlr": 3, "apgd-t": 4}
"""How many classes the loss of an attack needs."""
STEPS, RESTARTS, TARGETS = 100, 1, 9
"""Of each gradient attack of the standard ensemble."""
POINT = 0.01

Attack = Callable[[Batch, Labels], Batch]


class Agreement(Record):
    """The robust accuracies of two attacks on the same images.

    Examples
    --------
    >>> ours = nb.measure.outcomes(classifier, images, [nb.L2(0.5)])[1]
    >>> theirs = nb.measure.autoattack(classifier, images, nb.L2(0.5))  # doctest: +SKIP
    >>> agreement = nb.measure.Agreement.of(ours, theirs)  # doctest: +SKIP
    """

    pgd: Accuracy = Field(description="under the attack of notbugs")
    autoattack: Accuracy = Field(description="under AutoAttack")
    union: Proportion = Field(description="robust to both: the worst of the two for every image")
    marked: bool = Field(description="whether the two numbers differ by more than a point: one attack was too weak")

    @classmethod
    def of(cls, pgd: Outcome, autoattack: Outcome) -> Agreement:
        """Of two outcomes on the same images, inside the same threat model.

        Raises
        ------
        InputError
            If the two have other threat models or other numbers of images.
        """
        if _kind(pgd) != _kind(autoattack):
            raise must("autoattack", f"have PGD's norm, radius and number of images, {_kind(pgd)}", _kind(autoattack))
        union = Proportion.of(pgd.survived & autoattack.survived)
        gap = int(pgd.survived.sum()) - int(autoattack.survived.sum())
        return cls(pgd=pgd.accuracy, autoattack=autoattack.accuracy, union=union, marked=abs(gap) > POINT * union.n)

    def __str__(self) -> str:
        attack = self.pgd.attack
        where = f"{attack.norm} {attack.eps:g}, " if attack else ""
        told = f"{self.autoattack}\n{where}worst of both: {self.union}, n={self.union.n}"
        gap = 100 * (self.autoattack.share.value - self.pgd.share.value)
        return told + (f"\n! AutoAttack is {gap:+.1f} points from PGD: one of the two was too weak" * self.marked)


@checked
def autoattack(
    classifier: Classifier,
    images: Images,
    threat: Threat,
    *,
    attacks: Sequence[AttackName] | None = None,
    seed: int = 0,
    batch: int = 250,
    keep: Path | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Which images survive AutoAttack.

    It attacks a frozen copy in fp32. What it finds is brought inside the threat model and [0, 1], where rounding left
    it outside, and judged by the classifier itself in fp32.

    Parameters
    ----------
    classifier : Classifier
        Attacked in evaluation mode.
    images : Images
        With their true labels.
    threat : Threat
        `L2` or `Linf`, in pixel units.
    attacks : sequence of str, optional
        The standard ensemble by default: APGD on the cross-entropy, targeted APGD, targeted FAB and Square; without
        those whose loss needs more classes than there are.
    seed, batch : int
        The library draws its random starts for a batch, so both decide them.
    keep : Path, optional
        A folder. What became of every batch is kept in a file there, from which the same call goes on after a kill.

    Raises
    ------
    InputError
        Before any work: if the library is not installed, the radius is 0 or infinite, an attack is unknown or needs
        more classes, or the classifier does not fit the images.

    Examples
    --------
    >>> found = nb.measure.autoattack(classifier, images, nb.L2(0.5))  # doctest: +SKIP
    """
    require_autoattack()
    if not 0 < threat.eps < float("inf"):
        raise must("threat", "have a radius above 0 and finite", threat)
    check_radii([threat], images.shape)
    check_count("batch", batch)
    check_fits(classifier, images)
    classes = _classes(classifier, images)
    names = _chosen(attacks, classes, threat.norm, images.shape)
    library, version = _library()
    request = (fingerprint(classifier), images.fingerprint, threat, names, seed, batch, version)
    kept = Kept(keep, request, predictions(classifier, images, batch=batch) == images.labels)
    fast = ready(classifier, images.shape, batch=batch, form="fp32")[0]
    devices = [fast.device] if fast.device.type == "cuda" else []
    with fast.evaluating("fp32"), torch.random.fork_rng(devices=devices):  # the library seeds torch's generators
        attack = _prepared(library, fast, threat, names, classes, derive(seed, "autoattack"))
        survived = kept.attack(batch, lambda part: _survives(attack, classifier, *images.batch(part), threat), progress)
    used = AttackUsed(
        name="autoattack", norm=threat.norm, eps=threat.eps, steps=STEPS, step_size=None, restarts=RESTARTS,
        targeted=TARGETS if {"apgd-t", "fab-t"} & set(names) else 0, attacks=names, version=version,
    )  # fmt: skip
    return Outcome(used, survived)


def require_autoattack() -> None:
    """Refuse, if no library that has AutoAttack is installed.

    Raises
    ------
    InputError
        It names the extra.
    """
    if not any(map(util.find_spec, ("pyautoattack", "autoattack"))):
        raise InputError("AutoAttack needs the library pyautoattack: pip install 'notbugs[autoattack]'.")


def possible(attacks: Sequence[AttackName], classes: int, norm: str, shape: Sequence[int]) -> tuple[AttackName, ...]:
    """Those whose loss does not need more classes than there are, and that take images of such a shape."""
    names = tuple(name for name in attacks if CLASSES.get(name, 2) <= classes)
    if "square" in names and norm == "l2" and not _has_tiles(*shape[1:]):
        log.info("AutoAttack goes without Square, which cannot tile images of %dx%d in l2.", *shape[1:])
        names = tuple(name for name in names if name != "square")
    return names


def _has_tiles(height: int, width: int) -> bool:
    """Whether the tiles that Square starts from in l2 lie inside the image, where the library lays them."""
    side = height // 5
    first = (height - 5 * side) // 2
    return side == 1 or (side > 1 and all(first + length // side * side <= length for length in (height, width)))


def _library() -> tuple[type, str]:
    """The class, of pyautoattack or of the authors' own package, and `name version`."""
    name = "pyautoattack" if util.find_spec("pyautoattack") else "autoattack"
    if name == "pyautoattack":
        from pyautoattack import AutoAttack
    else:
        from autoattack import AutoAttack  # pyrefly: ignore
    return AutoAttack, f"{name} {metadata.version(name)}"


def _prepared(
    library: type, classifier: Classifier, threat: Threat, names: tuple[str, ...], classes: int, seed: int
) -> Attack:
    """From images and labels to what the library found: the standard ensemble's settings for any choice of attacks."""
    norm = {"l2": "L2", "linf": "Linf"}[threat.norm]
    logging.getLogger("auto-attack").setLevel(logging.ERROR)  # its warnings are measured: `masking_signs`
    ensemble: Any = library(
        classifier, norm=norm, eps=threat.eps, seed=seed % 2**32, version="standard", device=str(classifier.device)
    )
    ensemble.attacks_to_run = list(names)
    for attack in (ensemble.apgd_targeted, ensemble.fab):
        attack.n_target_classes = min(TARGETS, classes - 1)

    def run(images: Batch, labels: Labels) -> Batch:
        tracer = sys.gettrace()  # one of the library's checks takes it away
        try:
            attacked = ensemble.run_standard_evaluation(images.contiguous(), labels)
        finally:
            sys.settrace(tracer)
        return attacked[0] if isinstance(attacked, tuple) else attacked

    return run


def _survives(attack: Attack, classifier: Classifier, images: Batch, labels: Labels, threat: Threat) -> Tensor:
    """Which of some images survive, shape (some,), on the CPU."""
    images, labels = images.to(classifier.device), labels.to(classifier.device)
    attacked = attack(images, labels)
    valid = (images + threat.project(attacked - images)).clamp(0, 1)
    with torch.no_grad(), classifier.evaluating("fp32"):
        return (classifier(valid).argmax(1) == labels).cpu()


def _chosen(attacks: Sequence[str] | None, classes: int, norm: str, shape: Sequence[int]) -> tuple[str, ...]:
    if attacks is None:
        return possible(STANDARD, classes, norm, shape)
    if not attacks:
        raise must("attacks", "name at least one attack", tuple(attacks))
    for name in attacks:
        check_choice("attacks", name, get_args(AttackName))
        if CLASSES.get(name, 2) > classes:
            rule = f"not have {name} with fewer than {CLASSES[name]} classes, which its loss needs"
            raise must("attacks", rule, f"{classes} classes", "Take apgd-ce, fab-t and square.")
    if "square" in attacks and norm == "l2" and not _has_tiles(*shape[1:]):
        raise must("attacks", "not have square in l2 for images of this size", tuple(shape), "Take fab-t and apgd-ce.")
    return tuple(attacks)


def _classes(classifier: Classifier, images: Images) -> int:
    with torch.no_grad(), classifier.evaluating():
        return classifier(images.batch(slice(1))[0].to(classifier.device)).shape[1]


def _kind(outcome: Outcome) -> tuple[str, float, int] | None:
    attack = outcome.attack
    return (attack.norm, attack.eps, len(outcome.survived)) if attack else None
