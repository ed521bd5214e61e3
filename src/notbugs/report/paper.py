"""Reference values of "Adversarial Examples Are Not Bugs, They Are Features" (arXiv 1905.02175 v4), with sources.

Accuracies are shares in [0, 1]. They stand beside the numbers of a run, never in place of them.
"""

from __future__ import annotations

from dataclasses import dataclass

TITLE = "Adversarial Examples Are Not Bugs, They Are Features"
LINK = "https://arxiv.org/abs/1905.02175"
SETTING = "CIFAR-10, ResNet-50"
RADIUS = 0.25  # l2, of Figure 2b

Member = tuple[str, str]  # training set, training


@dataclass(frozen=True)
class Accuracies:
    """Clean accuracy, and robust accuracy at l2 radius 0.25 and 0.5."""

    clean: float
    robust: float
    robust_wide: float

    def at(self, norm: str | None, radius: float | None) -> float | None:
        """Robust accuracy at a radius; None where the paper has none."""
        return {RADIUS: self.robust, 2 * RADIUS: self.robust_wide}.get(radius or 0) if norm == "l2" else None


TABLE_7: dict[Member, Accuracies] = {
    ("D", "standard"): Accuracies(0.9525, 0.0449, 0.0),
    ("D", "adversarial"): Accuracies(0.9083, 0.8248, 0.7090),
    ("D_R", "standard"): Accuracies(0.8540, 0.4820, 0.2185),
    ("D_NR", "standard"): Accuracies(0.8768, 0.0082, 0.0),
}
"""Table 7, with D_R and D_NR started from images."""

FIGURE_2B_D_R = Accuracies(0.8410, 0.4827, 0.2940)
"""The D_R bar of Figure 2b: equal to the row of Table 7 that starts from noise."""

TABLE_1 = {"D": 0.953, "D_rand": 0.633, "D_det": 0.437}
"""Table 1, CIFAR-10: clean accuracy. D_rand has targets `any`; the paper has no D_rand with targets `other`."""


@dataclass(frozen=True)
class Learner:
    """Of one architecture: what it learns from D_det, and how the source's adversarial examples transfer to it."""

    architecture: str
    learned: float
    untargeted: float
    targeted: float


FIGURES_3_AND_13 = (
    Learner("VGG-16", 0.279, 0.657, 0.092),
    Learner("Inception-v3", 0.394, 0.828, 0.230),
    Learner("ResNet-18", 0.408, 0.921, 0.324),
    Learner("DenseNet", 0.417, 0.927, 0.365),
    Learner("ResNet-50", 0.447, 0.987, 0.716),
)
"""Measured off the vector figures, within about 0.001; radius and steps of the attack are not stated.

Figure 3 has untargeted, Figure 13 targeted transfer. Pearson's correlation of these points is 0.98 and 0.82.
"""

BIBTEX = """\
@inproceedings{ilyas2019adversarial,
  title     = {Adversarial Examples Are Not Bugs, They Are Features},
  author    = {Ilyas, Andrew and Santurkar, Shibani and Tsipras, Dimitris and Engstrom, Logan
               and Tran, Brandon and Madry, Aleksander},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {32},
  year      = {2019}
}"""
