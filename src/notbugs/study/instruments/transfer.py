"""Whether the architectures that learn most from D_det are those that the source's adversarial examples fool most.

The paper, section 3.3, Figures 3 and 13.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.measure import Correlation, Proportion, Transfer, correlation, predictions, transfer
from notbugs.measure.transfer import Kind
from notbugs.progress import Progress
from notbugs.search.fit import check_fits
from notbugs.study.checked import WholeFile
from notbugs.study.lab import Lab
from notbugs.study.sections import Architecture
from notbugs.threat import threat

Keep = Callable[[str, str, Callable[[Progress], Any]], Any]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Learner(_Model):
    """One architecture: what it learns from D_det, and what fools it when it learns from D."""

    architecture: str
    classifier: str = Field(description="the one trained on D, by its name in the matrix")
    parameters: int
    learned: Proportion = Field(description="test accuracy of the one trained on D_det, true labels")
    untargeted: Proportion = Field(description="misclassified by the one trained on D, of the source's examples")
    targeted: Proportion = Field(description="taken for the target by the one trained on D")


class TransferFound(WholeFile, _Model):
    """Learning from D_det against transfer, over architectures; and every classifier against every other."""

    source: str = Field(description="D_det was built with it, and its adversarial examples are those of `learners`")
    learners: list[Learner]
    untargeted: Correlation | None = Field(description="of learned and untargeted; null for fewer than 3 architectures")
    targeted: Correlation | None = Field(description="of learned and targeted")
    matrix: Transfer

    def lines(self) -> list[str]:
        """For a terminal: the architectures and their correlations; without architectures, the matrix."""
        if not self.learners:
            return [str(pair) for pair in self.matrix.pairs]
        found = [
            f"{at.architecture}: learned {at.learned} from D_det; fooled {at.untargeted}, into the target {at.targeted}"
            for at in self.learners
        ]
        return found + [f"{kind}: {what}" for kind in ("untargeted", "targeted") if (what := getattr(self, kind))]


@dataclass(frozen=True)
class Pair:
    """An architecture, and its classifiers: the one trained on D, with its name in the matrix, and that on D_det."""

    architecture: str
    name: str
    on_d: Classifier
    on_ddet: Classifier


def measure(lab: Lab) -> TransferFound:
    """The study's own architecture and those that the recipe names; its classifiers in the matrix.

    The point of the study's own architecture is its independent classifier: the source fools itself without transfer.
    """
    own = str(lab.recipe.architecture)
    pairs = [Pair(own, "independent", lab.classifier("independent"), lab.classifier("D_det"))]
    pairs += trained_pairs(lab, lab.set("D_det").images)
    others = {name: lab.classifier(name) for name in ("standard", "robust")}
    return measured(lab, "standard", pairs, others, lab.stage)


def architectures(lab: Lab) -> dict[str, Architecture]:
    """Those that the recipe names, as they are written there, checked on the images."""
    asked = {text: Architecture.parse(text) for text in lab.recipe.instruments.transfer.architectures}
    for architecture in asked.values():
        check_fits(architecture.new(lab.data, 0, lab.recipe), lab.data.train, len(lab.data.classes))
    return asked


def trained_pairs(lab: Lab, relabelled: Images) -> list[Pair]:
    """Every architecture that the recipe names, trained on D and on `relabelled`."""
    pairs = []
    for text, architecture in architectures(lab).items():
        name = file_name(text)
        on_d = lab.train(f"{name}-D", lab.data.train, "standard", architecture=architecture, title=f"train {text} on D")
        on_ddet = lab.train(f"{name}-D_det", relabelled, architecture=architecture, title=f"train {text} on D_det")
        pairs.append(Pair(text, text, on_d, on_ddet))
    return pairs


def measured(
    lab: Lab, source: str, pairs: Sequence[Pair], others: Mapping[str, Classifier], keep: Keep
) -> TransferFound:
    """Attack every classifier, and hold how the source's examples transfer against what is learned from D_det.

    Parameters
    ----------
    lab : Lab
        Its recipe says how the attack goes; its test images are attacked.
    source : str
        The name, in `others`, of the classifier that D_det was built with.
    pairs : sequence of Pair
        The architectures.
    others : mapping of str to Classifier
        More classifiers for the matrix, by names that no pair has.
    keep : callable
        Does a stage, as `lab.stage`.
    """
    matrix = _matrix(lab, {**others, **{pair.name: pair.on_d for pair in pairs}}, keep)
    learned = _learned(lab, pairs, keep)
    learners = []
    for pair in pairs:
        found = matrix.between(source, pair.name)
        learner = Learner(
            architecture=pair.architecture,
            classifier=pair.name,
            parameters=sum(parameter.numel() for parameter in pair.on_d.network.parameters()),
            learned=Proportion(**learned[pair.name]),
            untargeted=found.untargeted,
            targeted=found.targeted,
        )
        learners.append(learner)
    return TransferFound(
        source=source,
        learners=learners,
        untargeted=_correlation(learners, "untargeted", lab.seed),
        targeted=_correlation(learners, "targeted", lab.seed),
        matrix=matrix,
    )


def _matrix(lab: Lab, classifiers: Mapping[str, Classifier], keep: Keep) -> Transfer:
    asked, built = lab.recipe.instruments.transfer, lab.recipe.relabelling
    ball = threat(asked.norm or built.norm, built.eps if asked.eps is None else asked.eps)
    images = lab.data.test.sample(asked.images, lab.seed, "attacked for transfer")
    rows = []
    for source in classifiers:

        def work(progress: Progress, source: str = source) -> dict[str, Any]:
            how: dict[str, Any] = {"targets": asked.targets, "steps": asked.steps, "seed": lab.seed}
            return transfer(classifiers, images, ball, sources=[source], progress=progress, **how).model_dump()

        stage = f"transfer-{file_name(source)}"
        rows.append(Transfer(**keep(stage, f"show what fools {source} to the others", work)))
    return Transfer(attack=rows[0].attack, pairs=tuple(pair for row in rows for pair in row.pairs))


def _learned(lab: Lab, pairs: Sequence[Pair], keep: Keep) -> dict[str, Any]:
    def work(progress: Progress) -> dict[str, Any]:
        found = {}
        for number, pair in enumerate(pairs, 1):
            hits = predictions(pair.on_ddet, lab.data.test) == lab.data.test.labels
            found[pair.name] = Proportion.of(hits).model_dump()
            progress(number, len(pairs))
        return found

    return keep("transfer-learned", "measure what was learned from D_det", work) if pairs else {}


def _correlation(learners: Sequence[Learner], kind: Kind, seed: int) -> Correlation | None:
    if len(learners) < 3:
        return None
    learned = [learner.learned.value for learner in learners]
    return correlation(learned, [getattr(learner, kind).value for learner in learners], seed=seed)


def file_name(text: str) -> str:
    """`text` as part of the name of a file."""
    return re.sub(r"[^\w.-]+", "-", text)
