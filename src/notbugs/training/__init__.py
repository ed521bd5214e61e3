"""Training, standard and adversarial."""

from notbugs.training.loop import learning_rate, train
from notbugs.training.settings import Adversary, SpatialTraining, Training, new_classifier

__all__ = ["Adversary", "SpatialTraining", "Training", "learning_rate", "new_classifier", "train"]
