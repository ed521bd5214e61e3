"""Measurement: every number with its interval."""

from notbugs.measure.accuracy import Accuracy, AttackUsed, evaluate, predictions
from notbugs.measure.rank import feature_rank
from notbugs.measure.relabelled import relabelled_accuracy
from notbugs.measure.sets import measure_set
from notbugs.measure.statistics import Difference, Proportion, Spread, wilson

__all__ = [
    "Accuracy",
    "AttackUsed",
    "Difference",
    "Proportion",
    "Spread",
    "evaluate",
    "feature_rank",
    "measure_set",
    "predictions",
    "relabelled_accuracy",
    "wilson",
]
