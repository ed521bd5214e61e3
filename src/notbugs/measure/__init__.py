"""Measurement: every number with its interval."""

from notbugs.measure._alignment import alignment, class_means, input_gradients
from notbugs.measure._audit import audit
from notbugs.measure._autoattack import Agreement, autoattack
from notbugs.measure._leakage import Certificate, Leak, certified_linear, certify, containment, ensemble, leakage
from notbugs.measure._transfer import Transfer, Transferred, transfer
from notbugs.measure._usefulness import Usefulness, usefulness
from notbugs.measure.accuracy import Accuracy, AttackUsed, Outcome, evaluate, outcomes, predictions, relabelled_accuracy
from notbugs.measure.audit_result import Audit
from notbugs.measure.comparisons import (
    Correlation,
    OverSeeds,
    PairedTest,
    SeedDifference,
    correlation,
    holm,
    over_seeds,
    paired,
    paired_difference,
    welch,
)
from notbugs.measure.features import (
    FeatureMap,
    feature_rank,
    function_features,
    layer,
    linear_features,
    logits,
    penultimate,
    pixels,
    principal_components,
)
from notbugs.measure.likeness import (
    Likeness,
    PerturbationSize,
    Resemblance,
    just_noticeable,
    nearest_of_class,
    resemblance,
    ssim,
)
from notbugs.measure.linear_models import LinearModel, refit_head, robust_linear
from notbugs.measure.masking import Sign, masking_signs
from notbugs.measure.measured_set import measure_set
from notbugs.measure.set_properties import SetCarried, carried, ends
from notbugs.measure.spectrum import UsefulnessSummary
from notbugs.measure.statistics import Difference, Mean, Proportion, Spread, against_chance, wilson
from notbugs.measure.transformed import (
    CorruptionAccuracy,
    FilterAccuracy,
    SpatialAccuracy,
    corruption_accuracy,
    filter_accuracy,
    spatial_accuracy,
)

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
    "against_chance",
    "alignment",
    "audit",
    "autoattack",
    "carried",
    "certified_linear",
    "certify",
    "class_means",
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
    "input_gradients",
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
    "paired_difference",
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
