"""Training, standard and adversarial."""

from notbugs.training.loop import learning_rate, train
from notbugs.training.new import new_classifier
from notbugs.training.settings import Adversary, SpatialTraining, Training

__all__ = ["Adversary", "SpatialTraining", "Training", "learning_rate", "new_classifier", "train"]
