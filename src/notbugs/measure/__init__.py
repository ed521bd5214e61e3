"""Measurement: every number with its interval."""

from notbugs.measure.accuracy import Accuracy, AttackUsed, evaluate, predictions
from notbugs.measure.rank import feature_rank
from notbugs.measure.sets import measure_set
from notbugs.measure.statistics import Proportion, Spread, wilson

__all__ = [
    "Accuracy",
    "AttackUsed",
    "Proportion",
    "Spread",
    "evaluate",
    "feature_rank",
    "measure_set",
    "predictions",
    "wilson",
]
