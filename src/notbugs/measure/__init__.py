"""Measurement: every number with its interval."""

from notbugs.measure.accuracy import Accuracy, AttackUsed, evaluate, predictions
from notbugs.measure.correlation import Correlation, correlation
from notbugs.measure.rank import feature_rank
from notbugs.measure.relabelled import relabelled_accuracy
from notbugs.measure.sets import measure_set
from notbugs.measure.statistics import Difference, Proportion, Spread, wilson
from notbugs.measure.transfer import Transfer, Transferred, transfer

__all__ = [
    "Accuracy",
    "AttackUsed",
    "Correlation",
    "Difference",
    "Proportion",
    "Spread",
    "Transfer",
    "Transferred",
    "correlation",
    "evaluate",
    "feature_rank",
    "measure_set",
    "predictions",
    "relabelled_accuracy",
    "transfer",
    "wilson",
]
