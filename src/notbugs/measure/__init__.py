"""Measurement: every number with its interval."""

from notbugs.measure.accuracy import Accuracy, AttackUsed, evaluate, predictions
from notbugs.measure.corruptions import (
    CorruptionAccuracy,
    FilterAccuracy,
    corruption_accuracy,
    filter_accuracy,
)
from notbugs.measure.rank import feature_rank
from notbugs.measure.sets import measure_set
from notbugs.measure.spatial import SpatialAccuracy, spatial_accuracy
from notbugs.measure.statistics import Proportion, Spread, wilson

__all__ = [
    "Accuracy",
    "AttackUsed",
    "CorruptionAccuracy",
    "FilterAccuracy",
    "Proportion",
    "SpatialAccuracy",
    "Spread",
    "corruption_accuracy",
    "evaluate",
    "feature_rank",
    "filter_accuracy",
    "measure_set",
    "predictions",
    "spatial_accuracy",
    "wilson",
]
