"""Training, standard and adversarial."""

from notbugs.training.loop import learning_rate, train
from notbugs.training.new import new_classifier
from notbugs.training.settings import Adversary, SpatialTraining, Training
from notbugs.training.stopping import Trained

__all__ = ["Adversary", "SpatialTraining", "Trained", "Training", "learning_rate", "new_classifier", "train"]
