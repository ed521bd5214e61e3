"""Measurement: every number with its interval."""

from notbugs.measure.accuracy import Accuracy, AttackUsed, Outcome, evaluate, outcomes, predictions
from notbugs.measure.audit import audit
from notbugs.measure.audited import Audit
from notbugs.measure.autoattack import Agreement, autoattack
from notbugs.measure.constructions import containment, ensemble
from notbugs.measure.correlation import Correlation, correlation
from notbugs.measure.corruptions import (
    CorruptionAccuracy,
    FilterAccuracy,
    corruption_accuracy,
    filter_accuracy,
)
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
from notbugs.measure.leakage import Certificate, Leak, certified_linear, certify, leakage
from notbugs.measure.linear import LinearModel, robust_linear
from notbugs.measure.masking import Sign, masking_signs
from notbugs.measure.nearest import nearest_of_class
from notbugs.measure.paired import PairedTest, holm, paired
from notbugs.measure.rank import feature_rank
from notbugs.measure.relabelled import relabelled_accuracy
from notbugs.measure.repeats import OverSeeds, SeedDifference, over_seeds, welch
from notbugs.measure.resemblance import Likeness, Resemblance, resemblance
from notbugs.measure.sets import measure_set
from notbugs.measure.shares import SetCarried, carried, ends
from notbugs.measure.similarity import just_noticeable, ssim
from notbugs.measure.size import PerturbationSize
from notbugs.measure.spatial import SpatialAccuracy, spatial_accuracy
from notbugs.measure.spectrum import UsefulnessSummary
from notbugs.measure.statistics import Difference, Mean, Proportion, Spread, wilson
from notbugs.measure.transfer import Transfer, Transferred, transfer
from notbugs.measure.usefulness import Usefulness, usefulness

__all__ = [
    "Accuracy",
    "Agreement",
    "AttackUsed",
    "Audit",
    "Certificate",
    "Correlation",
    "CorruptionAccuracy",
    "Difference",
    "FeatureMap",
    "FilterAccuracy",
    "Leak",
    "Likeness",
    "LinearModel",
    "Mean",
    "Outcome",
    "OverSeeds",
    "PairedTest",
    "PerturbationSize",
    "Proportion",
    "Resemblance",
    "SeedDifference",
    "SetCarried",
    "Sign",
    "SpatialAccuracy",
    "Spread",
    "Transfer",
    "Transferred",
    "Usefulness",
    "UsefulnessSummary",
    "audit",
    "autoattack",
    "carried",
    "certified_linear",
    "certify",
    "containment",
    "correlation",
    "corruption_accuracy",
    "ends",
    "ensemble",
    "evaluate",
    "feature_rank",
    "filter_accuracy",
    "function_features",
    "holm",
    "just_noticeable",
    "layer",
    "leakage",
    "linear_features",
    "logits",
    "masking_signs",
    "measure_set",
    "nearest_of_class",
    "outcomes",
    "over_seeds",
    "paired",
    "penultimate",
    "pixels",
    "predictions",
    "principal_components",
    "refit_head",
    "relabelled_accuracy",
    "resemblance",
    "robust_linear",
    "spatial_accuracy",
    "ssim",
    "transfer",
    "usefulness",
    "welch",
    "wilson",
]
