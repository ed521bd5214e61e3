"""Measurement: every number with its interval."""

from notbugs.measure.accuracy import Accuracy, AttackUsed, evaluate, predictions
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
from notbugs.measure.leakage import Certificate, Leak, certified_linear, certify, leakage
from notbugs.measure.linear import LinearModel, robust_linear
from notbugs.measure.rank import feature_rank
from notbugs.measure.relabelled import relabelled_accuracy
from notbugs.measure.sets import measure_set
from notbugs.measure.shares import SetCarried, carried, ends
from notbugs.measure.spectrum import UsefulnessSummary
from notbugs.measure.statistics import Difference, Proportion, Spread, wilson
from notbugs.measure.usefulness import Usefulness, usefulness

__all__ = [
    "Accuracy",
    "AttackUsed",
    "Certificate",
    "Difference",
    "FeatureMap",
    "Leak",
    "LinearModel",
    "Proportion",
    "SetCarried",
    "Spread",
    "Usefulness",
    "UsefulnessSummary",
    "carried",
    "certified_linear",
    "certify",
    "containment",
    "ends",
    "ensemble",
    "evaluate",
    "feature_rank",
    "function_features",
    "layer",
    "leakage",
    "linear_features",
    "logits",
    "measure_set",
    "penultimate",
    "pixels",
    "predictions",
    "principal_components",
    "relabelled_accuracy",
    "robust_linear",
    "usefulness",
    "wilson",
]
