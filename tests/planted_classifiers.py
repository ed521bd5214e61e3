"""Classifiers on planted data whose features are known."""

from __future__ import annotations

import torch
from torch import nn

import notbugs as nb


def projecting(made: nb.data.Planted) -> nb.Classifier:
    """A classifier whose features are the planted ones, but for scale, and whose head sees all of them."""
    flat = made.templates.flatten(1)
    classes = len(made.data.classes)
    network = nn.Sequential(nn.Flatten(), nn.Linear(flat.shape[1], len(flat)), nn.Linear(len(flat), classes))
    with torch.no_grad():
        network[1].weight.copy_(flat)
        network[1].bias.copy_(-0.5 * flat.sum(1))
        network[2].weight.copy_(nn.functional.one_hot(made.codes, classes).T.float())
        network[2].bias.zero_()
    return nb.Classifier(network, head="2")
