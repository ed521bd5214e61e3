"""Trains a small classifier against pixels and rotations, by however many workers there are; saves what rank 0 has.

Arguments, three for each training: the file to write, a checkpoint or "-", and the size of a microbatch or 0; with
one, there is no batch norm.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from notbugs import workers
from notbugs.classifier import Classifier
from notbugs.data import load
from notbugs.files import write_tensors
from notbugs.seeds import seeded
from notbugs.training import Adversary, SpatialTraining, Training, new_classifier, train
from notbugs.training import loop as training_loop


def main(out: str, checkpoint: str, microbatch: str) -> None:
    training_loop.CHECKPOINT_SECONDS = -1.0
    data = load("digits").take(41, 10, 0)
    spatial = SpatialTraining(degrees=20, pixels=1, tries=2)
    adversary = Adversary(eps=0.3, steps=2)
    size = int(microbatch) or None
    settings = Training(
        epochs=3, batch=8, microbatch=size, lr=0.05, shift=1, flip=True, adversary=adversary, spatial=spatial
    )
    classifier = new_classifier(data, width=4, features=8, device=torch.device("cpu"), precision="fp32")
    if size:
        with seeded(0):
            network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        classifier = Classifier(network, mean=(0.5,))
    file = None if checkpoint == "-" else Path(checkpoint)

    def stop_late(done: int, total: int, note: str = "") -> None:
        if file and not file.with_suffix(".second").exists() and done > 0.9 * total:
            sys.exit(3)

    train(classifier, data.train, settings, checkpoint=file, progress=stop_late)
    others = torch.cat([parameter.detach().flatten() for parameter in classifier.parameters()])
    if workers.count() > 1:
        torch.distributed.broadcast(others, 0)
    own = torch.cat([parameter.detach().flatten() for parameter in classifier.parameters()])
    assert torch.equal(own, others), "the workers ended with different weights"
    if workers.rank() == 0:
        write_tensors(Path(out), classifier.state_dict())


if __name__ == "__main__":
    with workers.joined():
        for first in range(1, len(sys.argv), 3):
            main(*sys.argv[first : first + 3])
