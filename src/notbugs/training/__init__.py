"""Training, standard and adversarial."""

from notbugs.training.loop import learning_rate, train
from notbugs.training.settings import Adversary, AppearanceTraining, SpatialTraining, Training, new_classifier
from notbugs.training.watching import Trained

__all__ = [
    "Adversary",
    "AppearanceTraining",
    "SpatialTraining",
    "Trained",
    "Training",
    "learning_rate",
    "new_classifier",
    "train",
]
