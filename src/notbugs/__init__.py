"""notbugs: a laboratory for robust and non-robust features.

The whole public API, in the order in which an experiment uses it.
"""

from notbugs._version import __version__ as __version__
from notbugs.classifier import Classifier as Classifier
from notbugs.classifier import default_device as default_device
from notbugs.construct import PAPER_RELABELLING as PAPER_RELABELLING
from notbugs.construct import ConstructedSet as ConstructedSet
from notbugs.construct import export as export
from notbugs.construct import relabel as relabel
from notbugs.construct import robustify as robustify
from notbugs.construct import verify as verify
from notbugs.data import Augmentation as Augmentation
from notbugs.data import Data as Data
from notbugs.data import Images as Images
from notbugs.data import Planted as Planted
from notbugs.data import load as load
from notbugs.data import planted as planted
from notbugs.errors import InputError as InputError
from notbugs.measure import Accuracy as Accuracy
from notbugs.measure import Audit as Audit
from notbugs.measure import audit as audit
from notbugs.measure import evaluate as evaluate
from notbugs.measure import feature_rank as feature_rank
from notbugs.measure import measure_set as measure_set
from notbugs.measure import predictions as predictions
from notbugs.measure import refit_head as refit_head
from notbugs.measure import wilson as wilson
from notbugs.models import Blueprint as Blueprint
from notbugs.models import build as build
from notbugs.models import load_classifier as load_classifier
from notbugs.models import load_weights as load_weights
from notbugs.models import save_classifier as save_classifier
from notbugs.search import PAPER_MATCHING as PAPER_MATCHING
from notbugs.search import Found as Found
from notbugs.search import QuasiNewton as QuasiNewton
from notbugs.search import Schedule as Schedule
from notbugs.search import Shrinking as Shrinking
from notbugs.search import fast_matching as fast_matching
from notbugs.search import fast_relabelling as fast_relabelling
from notbugs.search import match_features as match_features
from notbugs.search import minimum_norm as minimum_norm
from notbugs.search import pgd as pgd
from notbugs.search import search as search
from notbugs.search import targeted_pgd as targeted_pgd
from notbugs.threat import L2 as L2
from notbugs.threat import Linf as Linf
from notbugs.threat import Threat as Threat
from notbugs.training import Adversary as Adversary
from notbugs.training import Training as Training
from notbugs.training import new_classifier as new_classifier
from notbugs.training import train as train
