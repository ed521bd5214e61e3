"""Measurement: every number with its interval."""

from notbugs.measure.accuracy import Accuracy, AttackUsed, evaluate, predictions
from notbugs.measure.leakage import Certificate, Leak, certified_linear, certify, leakage
from notbugs.measure.linear import LinearModel, robust_linear
from notbugs.measure.rank import feature_rank
from notbugs.measure.sets import measure_set
from notbugs.measure.shares import SetCarried, carried, ends
from notbugs.measure.statistics import Proportion, Spread, wilson

__all__ = [
    "Accuracy",
    "AttackUsed",
    "Certificate",
    "Leak",
    "LinearModel",
    "Proportion",
    "SetCarried",
    "Spread",
    "carried",
    "certified_linear",
    "certify",
    "ends",
    "evaluate",
    "feature_rank",
    "leakage",
    "measure_set",
    "predictions",
    "robust_linear",
    "wilson",
]
