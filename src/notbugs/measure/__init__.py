"""Measurement: every number with its interval."""

from notbugs.measure.accuracy import Accuracy, AttackUsed, evaluate, predictions
from notbugs.measure.audit import audit
from notbugs.measure.audited import Audit
from notbugs.measure.constructions import containment, ensemble
from notbugs.measure.features import (
    FeatureMap,
    function_features,
    layer,
    linear_features,
    logits,
    penultimate,
    pixels,
    principal_components,
)
from notbugs.measure.heads import refit_head
from notbugs.measure.rank import feature_rank
from notbugs.measure.sets import measure_set
from notbugs.measure.spectrum import UsefulnessSummary
from notbugs.measure.statistics import Proportion, Spread, wilson
from notbugs.measure.usefulness import Usefulness, usefulness

__all__ = [
    "Accuracy",
    "AttackUsed",
    "Audit",
    "FeatureMap",
    "Proportion",
    "Spread",
    "Usefulness",
    "UsefulnessSummary",
    "audit",
    "containment",
    "ensemble",
    "evaluate",
    "feature_rank",
    "function_features",
    "layer",
    "linear_features",
    "logits",
    "measure_set",
    "penultimate",
    "pixels",
    "predictions",
    "principal_components",
    "refit_head",
    "usefulness",
    "wilson",
]
