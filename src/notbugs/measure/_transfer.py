"""Transfer: how often the adversarial examples of one classifier fool another, and how robust it is itself.

The two are different questions. An example that is to fool others goes on to the end of its steps, and so is far beyond
the boundary; robust accuracy asks whether any example is there at all. So examples for transfer have a protocol of
their own, and the robust accuracy of a source is that of the strong attack, which goes on with what they leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.construct.builder import choose_targets
from notbugs.data import Images
from notbugs.errors import check_choice, check_count, must
from notbugs.formats import percent
from notbugs.given import checked
from notbugs.measure.accuracy import Accuracy, AttackUsed, Outcome, predictions
from notbugs.measure.statistics import Proportion
from notbugs.progress import Progress, silent
from notbugs.records import Record
from notbugs.search import STRONG, Attack, Attacked, Found, PGDSteps, fast_relabelling, pgd, targeted_pgd
from notbugs.search.compatibility import check_fits
from notbugs.search.steps import Decay
from notbugs.shapes import Labels
from notbugs.shown import Tabular
from notbugs.threat import Threat, check_radii

WrongTargets = Literal["next", "other"]
Kind = Literal["untargeted", "targeted"]
FIGURES: dict[Kind, tuple[str, str]] = {
    "untargeted": ("Figure 3", "adversarial examples misclassified (%)"),
    "targeted": ("Figure 13", "adversarial examples taken for the target (%)"),
}
"""The paper's figure of each kind, and what its upward axis shows."""
PROTOCOL = "examples for transfer"
"""Its name, wherever an attack is named."""


class Transferred(Record):
    """How the adversarial examples of `source` fare on `classifier`, all shares of the same images.

    Examples
    --------
    >>> found = nb.transfer({'source': classifier}, images, nb.L2(0.5), steps=2)
    >>> pair = found.pairs[0]
    """

    source: str = Field(description="that the examples were made with")
    classifier: str = Field(description="that they were tried on")
    accuracy: Proportion = Field(description="of the classifier on the images as they are")
    untargeted: Proportion = Field(description="misclassified under the untargeted attack: the paper's Figure 3")
    untargeted_of_correct: Proportion | None = Field(
        description="the same among images that both classify correctly as they are; null where there are none"
    )
    targeted: Proportion = Field(description="taken for the target under the targeted attack: the paper's Figure 13")
    targeted_of_correct: Proportion | None = Field(description="the same among images that both classify correctly")
    already_target: Proportion = Field(description="taken for the target as they are: targeted transfer of no attack")

    def __str__(self) -> str:
        return (
            f"{self.source} -> {self.classifier}: untargeted {self.untargeted}; targeted {self.targeted}; "
            f"accuracy without attack {percent(self.accuracy.value)}%, n={self.accuracy.n}"
        )


class TransferAttack(AttackUsed):
    """How examples are made on the source, untargeted and targeted alike."""

    name: str = Field(PROTOCOL, description="of the protocol: all steps from the image, whenever the source is fooled")
    decay: Decay = Field(description="how the step falls to 0")
    targets: WrongTargets = Field(description="'next': label + 1; 'other': uniform over the wrong classes")
    seed: int = Field(description="of the targets")


class Transfer(Tabular, Record):
    """Every source against every classifier, in the order in which they were given.

    Examples
    --------
    >>> found = nb.transfer({'source': classifier}, images, nb.L2(0.5), steps=2)
    >>> found.sources
    ['source']
    """

    attack: TransferAttack = Field(description="that made the examples")
    pairs: tuple[Transferred, ...] = Field(description="every source with every classifier")
    robust: dict[str, Accuracy] = Field(
        {}, description="of each source itself, by an attack on what the examples for transfer leave"
    )

    @property
    def heading(self) -> str:
        """What the rows are."""
        return (
            f"Transfer at {self.attack.norm} {self.attack.eps:g}, {self.attack.steps} steps: shares of the same images"
        )

    def table_rows(self) -> list[dict[str, object]]:
        """One row for each source and classifier."""
        rows: list[dict[str, object]] = []
        for pair in self.pairs:
            row: dict[str, object] = {"source": pair.source, "classifier": pair.classifier, "n": pair.accuracy.n}
            for name in ("accuracy", "untargeted", "targeted", "already_target"):
                share = getattr(pair, name)
                row |= {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}
            rows.append(row)
        return rows

    @property
    def sources(self) -> list[str]:
        """Names of the sources."""
        return list(dict.fromkeys(pair.source for pair in self.pairs))

    @property
    def classifiers(self) -> list[str]:
        """Names of the classifiers that were shown the adversarial examples."""
        return list(dict.fromkeys(pair.classifier for pair in self.pairs))

    def between(self, source: str, classifier: str) -> Transferred:
        """One pair."""
        for pair in self.pairs:
            if (pair.source, pair.classifier) == (source, classifier):
                return pair
        raise must("source and classifier", "be among those that were measured", (source, classifier))


@checked
def transfer(
    classifiers: Mapping[str, Classifier],
    images: Images,
    threat: Threat,
    *,
    sources: Sequence[str] | None = None,
    targets: WrongTargets = "next",
    steps: int = 20,
    attack: str | Attack = STRONG,
    seed: int = 0,
    batch: int = 250,
    progress: Progress = silent,
) -> Transfer:
    """How often the adversarial examples of every source fool every classifier, and each source's robust accuracy.

    Every image is attacked to the end of the steps, not only until it fools the source: the untargeted example is
    the iterate that the source misclassifies by the largest margin, the targeted one that which it takes for the target
    most confidently. The search runs on a frozen copy of the source in its fastest form; all are judged in fp32.

    Parameters
    ----------
    classifiers : mapping of str to Classifier
        By name, all of the same classes. Measured in evaluation mode.
    images : Images
        With their true labels; best ones that none was trained on.
    threat : Threat
        For instance `L2(0.5)`, in pixel units.
    sources : sequence of str, optional
        The names of those that are attacked; all by default.
    targets : {"next", "other"}
        The class that the targeted attack moves an image to: the next, as D_det, or a wrong one at random.
    steps : int
        Of both kinds of examples, the first 2 eps long, then decaying to 0.
    attack : str or Attack
        By which robust accuracy of the sources is measured, as in `evaluate`.
    seed : int
        Of the targets, and of everything random in the attack.

    Returns
    -------
    Transfer
        Every pair, and the robust accuracy of every source, with Wilson intervals.

    Raises
    ------
    InputError
        If an argument breaks its rule, or a classifier does not fit the images or has other classes.

    Examples
    --------
    >>> other = nb.new_classifier(data, width=4, features=8, seed=1)
    >>> found = nb.transfer({'source': classifier, 'other': other}, images, nb.L2(0.5), steps=2)
    >>> found.between('source', 'other').untargeted.n
    20
    """
    check_choice("targets", targets, ("next", "other"))
    check_radii([threat], images.shape)
    schedule = fast_relabelling(threat, check_count("steps", steps))
    if not classifiers:
        raise must("classifiers", "name at least one", {})
    names = list(sources or classifiers)
    for name in names:
        check_choice("source", name, classifiers)
    judging = Attack.named(attack)
    goals = choose_targets(images.labels, _classes(classifiers, images), targets, seed)
    clean = {name: predictions(classifier, images, batch=batch) for name, classifier in classifiers.items()}
    pairs, robust = [], {}

    def tell_of(half: int) -> Progress:
        """Of the work on each source, there are two halves."""

        def tell(done: int, total: int, note: str = "") -> None:
            progress(half * len(images) + done, 2 * len(names) * len(images), note)

        return tell

    for place, source in enumerate(names):
        run = Attacked(classifiers[source], images, [threat] if threat.eps else [], seed=seed, batch=batch)
        said = _under_attack(run, classifiers, goals, threat, schedule, tell_of(2 * place))
        pairs += [_judged(source, name, clean, said, images.labels, goals) for name in classifiers]
        run.progress = tell_of(2 * place + 1)
        robust[source] = _robust(run, judging, threat)
    used = TransferAttack(
        norm=threat.norm,
        eps=threat.eps,
        steps=steps,
        step_size=schedule.first_length(threat),
        restarts=1,
        decay=schedule.decay,
        targets=targets,
        seed=seed,
    )
    return Transfer(attack=used, pairs=tuple(pairs), robust=robust)


def _robust(run: Attacked, attack: Attack, threat: Threat) -> Accuracy:
    """Robust accuracy of the classifier in `run`, on which examples for transfer were tried already."""
    run.by(attack)
    used, survived = AttackUsed.of(attack, threat), run.radius > threat.eps
    return Outcome(used, survived, run.first(threat), run.images.labels).accuracy


def _classes(classifiers: Mapping[str, Classifier], images: Images) -> int:
    """How many classes they have, after checking that they fit the images and each other."""
    first = next(iter(classifiers.values()))
    check_fits(first, images)
    with torch.no_grad(), first.evaluating("fp32"):
        classes = first(images.batch(slice(1))[0].to(first.device)).shape[1]
    for classifier in classifiers.values():
        check_fits(classifier, images, classes)
    return classes


Said = dict[tuple[Kind, str], Tensor]
"""Predicted classes, shape (n,), by kind of attack and name of the classifier."""


def _under_attack(
    run: Attacked,
    classifiers: Mapping[str, Classifier],
    goals: Labels,
    threat: Threat,
    schedule: PGDSteps,
    tell: Progress,
) -> Said:
    """What every classifier says of the adversarial examples of the one in `run`, which notes what fools it itself."""
    fast, images = run.fast, run.images
    parts: dict[tuple[Kind, str], list[Tensor]] = {}
    for numbers in torch.arange(len(images)).split(run.batch):
        inputs, labels = images.batch(numbers)
        inputs, labels, targets = (part.to(fast.device) for part in (inputs, labels, goals[numbers]))
        results: dict[Kind, Found] = {
            "untargeted": pgd(fast, inputs, labels, threat, schedule),
            "targeted": targeted_pgd(fast, inputs, targets, threat, schedule),
        }
        for kind, adversarial in results.items():
            for name, classifier in classifiers.items():
                with torch.no_grad(), classifier.evaluating("fp32"):
                    says = classifier(adversarial.images.to(classifier.device)).argmax(1).cpu()
                parts.setdefault((kind, name), []).append(says)
            run.found(PROTOCOL, numbers, adversarial.images, threat)
        tell(int(numbers[-1]) + 1, len(images))
    return {key: torch.cat(says) for key, says in parts.items()}


def _judged(
    source: str, name: str, clean: Mapping[str, Tensor], said: Said, labels: Labels, goals: Labels
) -> Transferred:
    fooled, hit = said["untargeted", name] != labels, said["targeted", name] == goals
    both = (clean[source] == labels) & (clean[name] == labels)
    return Transferred(
        source=source,
        classifier=name,
        accuracy=Proportion.of(clean[name] == labels),
        untargeted=Proportion.of(fooled),
        untargeted_of_correct=Proportion.of(fooled[both]) if both.any() else None,
        targeted=Proportion.of(hit),
        targeted_of_correct=Proportion.of(hit[both]) if both.any() else None,
        already_target=Proportion.of(clean[name] == goals),
    )
