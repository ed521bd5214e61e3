"""notbugs: a laboratory for robust and non-robust features.

The whole public API, in the order in which an experiment uses it.
"""

from typing import TYPE_CHECKING

from notbugs import _start as _start  # first: signals are heard from here on
from notbugs._version import __version__ as __version__
from notbugs.classifier import Classifier as Classifier
from notbugs.classifier import default_device as default_device
from notbugs.construct import PAPER_RELABELLING as PAPER_RELABELLING
from notbugs.construct import ConstructedSet as ConstructedSet
from notbugs.construct import control as control
from notbugs.construct import export as export
from notbugs.construct import mislabel as mislabel
from notbugs.construct import relabel as relabel
from notbugs.construct import robustify as robustify
from notbugs.construct import verify as verify
from notbugs.data import CORRUPTIONS as CORRUPTIONS
from notbugs.data import Augmentation as Augmentation
from notbugs.data import Data as Data
from notbugs.data import Images as Images
from notbugs.data import Planted as Planted
from notbugs.data import corrupt as corrupt
from notbugs.data import high_pass as high_pass
from notbugs.data import load as load
from notbugs.data import low_pass as low_pass
from notbugs.data import planted as planted
from notbugs.errors import InputError as InputError
from notbugs.errors import renamed
from notbugs.measure import Accuracy as Accuracy
from notbugs.measure import Agreement as Agreement
from notbugs.measure import Audit as Audit
from notbugs.measure import Certificate as Certificate
from notbugs.measure import CorruptionAccuracy as CorruptionAccuracy
from notbugs.measure import FeatureMap as FeatureMap
from notbugs.measure import FilterAccuracy as FilterAccuracy
from notbugs.measure import Leak as Leak
from notbugs.measure import Likeness as Likeness
from notbugs.measure import LinearModel as LinearModel
from notbugs.measure import Mean as Mean
from notbugs.measure import Outcome as Outcome
from notbugs.measure import OverSeeds as OverSeeds
from notbugs.measure import PairedTest as PairedTest
from notbugs.measure import PerturbationSize as PerturbationSize
from notbugs.measure import Resemblance as Resemblance
from notbugs.measure import SetCarried as SetCarried
from notbugs.measure import Sign as Sign
from notbugs.measure import SpatialAccuracy as SpatialAccuracy
from notbugs.measure import Transfer as Transfer
from notbugs.measure import Usefulness as Usefulness
from notbugs.measure import audit as audit
from notbugs.measure import autoattack as autoattack
from notbugs.measure import carried as carried
from notbugs.measure import certified_linear as certified_linear
from notbugs.measure import certify as certify
from notbugs.measure import containment as containment
from notbugs.measure import correlation as correlation
from notbugs.measure import corruption_accuracy as corruption_accuracy
from notbugs.measure import ends as ends
from notbugs.measure import ensemble as ensemble
from notbugs.measure import evaluate as evaluate
from notbugs.measure import feature_rank as feature_rank
from notbugs.measure import filter_accuracy as filter_accuracy
from notbugs.measure import function_features as function_features
from notbugs.measure import holm as holm
from notbugs.measure import just_noticeable as just_noticeable
from notbugs.measure import layer as layer
from notbugs.measure import leakage as leakage
from notbugs.measure import linear_features as linear_features
from notbugs.measure import logits as logits
from notbugs.measure import masking_signs as masking_signs
from notbugs.measure import measure_set as measure_set
from notbugs.measure import nearest_of_class as nearest_of_class
from notbugs.measure import outcomes as outcomes
from notbugs.measure import over_seeds as over_seeds
from notbugs.measure import paired as paired
from notbugs.measure import penultimate as penultimate
from notbugs.measure import pixels as pixels
from notbugs.measure import predictions as predictions
from notbugs.measure import principal_components as principal_components
from notbugs.measure import refit_head as refit_head
from notbugs.measure import relabelled_accuracy as relabelled_accuracy
from notbugs.measure import resemblance as resemblance
from notbugs.measure import robust_linear as robust_linear
from notbugs.measure import spatial_accuracy as spatial_accuracy
from notbugs.measure import ssim as ssim
from notbugs.measure import transfer as transfer
from notbugs.measure import usefulness as usefulness
from notbugs.measure import welch as welch
from notbugs.measure import wilson as wilson
from notbugs.models import Blueprint as Blueprint
from notbugs.models import build as build
from notbugs.models import load_classifier as load_classifier
from notbugs.models import load_weights as load_weights
from notbugs.models import save_classifier as save_classifier
from notbugs.search import FMN as FMN
from notbugs.search import LBFGS as LBFGS
from notbugs.search import PAPER_MATCHING as PAPER_MATCHING
from notbugs.search import Attack as Attack
from notbugs.search import Found as Found
from notbugs.search import FoundSpatial as FoundSpatial
from notbugs.search import PGDSteps as PGDSteps
from notbugs.search import fast_matching as fast_matching
from notbugs.search import fast_relabelling as fast_relabelling
from notbugs.search import match_features as match_features
from notbugs.search import minimum_norm as minimum_norm
from notbugs.search import pgd as pgd
from notbugs.search import replaced_backward as replaced_backward
from notbugs.search import spatial_pgd as spatial_pgd
from notbugs.search import targeted_pgd as targeted_pgd
from notbugs.threat import L2 as L2
from notbugs.threat import Linf as Linf
from notbugs.threat import Spatial as Spatial
from notbugs.threat import Threat as Threat
from notbugs.training import Adversary as Adversary
from notbugs.training import SpatialTraining as SpatialTraining
from notbugs.training import Training as Training
from notbugs.training import new_classifier as new_classifier
from notbugs.training import train as train

if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"Schedule": "PGDSteps", "Shrinking": "FMN", "QuasiNewton": "LBFGS"})
