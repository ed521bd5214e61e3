"""notbugs: a laboratory for robust and non-robust features.

The names that an experiment needs are here, in families; all others are in modules, as `notbugs.measure`. Nothing is
imported before it is used.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from notbugs import _start as _start  # first: signals are heard from here on
from notbugs._version import __version__ as __version__
from notbugs.lazily import lazily as _lazily

if TYPE_CHECKING:
    from notbugs import construct as construct
    from notbugs import data as data
    from notbugs import measure as measure
    from notbugs import models as models
    from notbugs import report as report
    from notbugs import search as search
    from notbugs import study as study
    from notbugs import theory as theory
    from notbugs import training as training
    from notbugs.classifier import Classifier as Classifier
    from notbugs.construct import ConstructedSet as ConstructedSet
    from notbugs.construct import control as control
    from notbugs.construct import export as export
    from notbugs.construct import relabel as relabel
    from notbugs.construct import robustify as robustify
    from notbugs.construct import verify as verify
    from notbugs.data import Data as Data
    from notbugs.data import Images as Images
    from notbugs.data import load as load
    from notbugs.data import planted as planted
    from notbugs.errors import InputError as InputError
    from notbugs.measure import audit as audit
    from notbugs.measure import evaluate as evaluate
    from notbugs.measure import leakage as leakage
    from notbugs.measure import transfer as transfer
    from notbugs.measure import usefulness as usefulness
    from notbugs.models import load_classifier as load_classifier
    from notbugs.models import save_classifier as save_classifier
    from notbugs.search import match_features as match_features
    from notbugs.search import minimum_norm as minimum_norm
    from notbugs.search import pgd as pgd
    from notbugs.search import targeted_pgd as targeted_pgd
    from notbugs.threat import L2 as L2
    from notbugs.threat import Linf as Linf
    from notbugs.threat import Spatial as Spatial
    from notbugs.training import Adversary as Adversary
    from notbugs.training import Training as Training
    from notbugs.training import new_classifier as new_classifier
    from notbugs.training import train as train

FAMILIES: dict[str, dict[str, tuple[str, ...]]] = {
    "Data": {"data": ("load", "Data", "Images", "planted")},
    "Classifiers": {
        "classifier": ("Classifier",),
        "training": ("new_classifier", "train", "Training", "Adversary"),
        "models": ("load_classifier", "save_classifier"),
    },
    "Threat models": {"threat": ("L2", "Linf", "Spatial")},
    "Searches": {"search": ("pgd", "targeted_pgd", "minimum_norm", "match_features")},
    "Constructed sets": {
        "construct": ("robustify", "relabel", "control", "ConstructedSet", "verify", "export"),
    },
    "Measurements": {"measure": ("evaluate", "usefulness", "audit", "transfer", "leakage")},
    "Errors": {"errors": ("InputError",)},
}
"""The names of the top level, by what they are for and the module that has them."""

MODULES = ("construct", "data", "measure", "models", "report", "search", "study", "theory", "training")
"""Where all other public names are."""

_HOME = {name: module for family in FAMILIES.values() for module, names in family.items() for name in names}
_find = _lazily(__name__, {module: names for family in FAMILIES.values() for module, names in family.items()})
_MOVED = {
    "classifier": ("default_device",),
    "construct": ("PAPER_RELABELLING", "mislabel"),
    "data": ("CORRUPTIONS", "Augmentation", "Planted", "corrupt", "high_pass", "low_pass"),
    "measure": (
        *(
            "Accuracy",
            "Agreement",
            "Audit",
            "Certificate",
            "CorruptionAccuracy",
            "FeatureMap",
            "FilterAccuracy",
            "Leak",
        ),
        *("Likeness", "LinearModel", "Mean", "Outcome", "OverSeeds", "PairedTest", "PerturbationSize", "Resemblance"),
        *("SetCarried", "Sign", "SpatialAccuracy", "Transfer", "Usefulness", "autoattack", "carried"),
        *("certified_linear", "certify", "containment", "correlation", "corruption_accuracy", "ends", "ensemble"),
        *("feature_rank", "filter_accuracy", "function_features", "holm", "just_noticeable", "layer"),
        *("linear_features", "logits", "masking_signs", "measure_set", "nearest_of_class", "outcomes", "over_seeds"),
        *("paired", "penultimate", "pixels", "predictions", "principal_components", "refit_head"),
        *("relabelled_accuracy", "resemblance", "robust_linear", "spatial_accuracy", "ssim", "welch", "wilson"),
    ),
    "models": ("Blueprint", "build", "load_weights"),
    "search": (
        *("PAPER_MATCHING", "Attack", "FMN", "Found", "FoundSpatial", "LBFGS", "PGDSteps"),
        *("fast_matching", "fast_relabelling", "replaced_backward", "spatial_pgd"),
    ),
    "threat": ("Threat",),
    "training": ("SpatialTraining",),
}
_OLD = {name: f"{module}.{name}" for module, names in _MOVED.items() for name in names}
_OLD |= {"Schedule": "search.PGDSteps", "Shrinking": "search.FMN", "QuasiNewton": "search.LBFGS"}

__all__ = [*_HOME, *MODULES]  # pyrefly: ignore


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return _find(name)
    if name in MODULES:
        return importlib.import_module(f"notbugs.{name}")
    if name in _OLD:
        said = f"notbugs.{name} is now notbugs.{_OLD[name]}, and will be removed in version 1.0."
        warnings.warn(said, DeprecationWarning, stacklevel=2)
        module, now = _OLD[name].split(".")
        return getattr(importlib.import_module(f"notbugs.{module}"), now)
    raise AttributeError(f"module 'notbugs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
