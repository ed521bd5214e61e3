"""Measurement: every number with its interval."""

from notbugs.measure.accuracy import Accuracy, AttackUsed, evaluate, predictions
from notbugs.measure.audit import Audit, audit
from notbugs.measure.heads import features_of, refit_head
from notbugs.measure.rank import feature_rank
from notbugs.measure.sets import measure_set
from notbugs.measure.statistics import Proportion, Spread, wilson

__all__ = [
    "Accuracy",
    "AttackUsed",
    "Audit",
    "Proportion",
    "Spread",
    "audit",
    "evaluate",
    "feature_rank",
    "features_of",
    "measure_set",
    "predictions",
    "refit_head",
    "wilson",
]
