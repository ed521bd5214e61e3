"""Measurement: every number with its interval."""

from notbugs.measure.accuracy import Accuracy, AttackUsed, Outcome, evaluate, outcomes, predictions
from notbugs.measure.autoattack import Agreement, autoattack
from notbugs.measure.correlation import Correlation, correlation
from notbugs.measure.masking import Sign, masking_signs
from notbugs.measure.paired import PairedTest, paired
from notbugs.measure.rank import feature_rank
from notbugs.measure.relabelled import relabelled_accuracy
from notbugs.measure.repeats import OverSeeds, over_seeds
from notbugs.measure.sets import measure_set
from notbugs.measure.statistics import Difference, Proportion, Spread, wilson
from notbugs.measure.transfer import Transfer, Transferred, transfer

__all__ = [
    "Accuracy",
    "Agreement",
    "AttackUsed",
    "Correlation",
    "Difference",
    "Outcome",
    "OverSeeds",
    "PairedTest",
    "Proportion",
    "Sign",
    "Spread",
    "Transfer",
    "Transferred",
    "autoattack",
    "correlation",
    "evaluate",
    "feature_rank",
    "masking_signs",
    "measure_set",
    "outcomes",
    "over_seeds",
    "paired",
    "predictions",
    "relabelled_accuracy",
    "transfer",
    "wilson",
]
