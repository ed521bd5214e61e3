"""Architectures by name, networks of other libraries and of your own, and files of weights."""

from notbugs.models.checkpoint import load_classifier as load_classifier
from notbugs.models.checkpoint import save_classifier as save_classifier
from notbugs.models.execution import Choice as Choice
from notbugs.models.execution import fastest as fastest
from notbugs.models.execution import frozen as frozen
from notbugs.models.huggingface import digest as digest
from notbugs.models.registry import ARCHITECTURES as ARCHITECTURES
from notbugs.models.registry import Blueprint as Blueprint
from notbugs.models.registry import build as build
from notbugs.models.weights import load_weights as load_weights
