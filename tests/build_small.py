"""Builds a small set of many shards: the child that tests kill. Says its process number when it begins.

python -m tests.build_small FOLDER
python -m torch.distributed.run --standalone --nproc_per_node=2 -m tests.build_small FOLDER
"""

from __future__ import annotations

import gc
import os
import sys

import torch
from torch import distributed, nn

from notbugs.classifier import Classifier
from notbugs.construct import relabel, storage
from notbugs.data import Data, Images
from notbugs.search import PGDSteps
from notbugs.seeds import generator, seeded


def data() -> Data:
    images = Images(torch.rand(200, 2, 8, 8, generator=generator(0, "kills")), torch.arange(200) % 4)
    return Data("random", images, images, ("a", "b", "c", "d"))


def source() -> Classifier:
    with seeded(3):
        network = nn.Sequential(
            nn.Conv2d(2, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 16), nn.ReLU(), nn.Linear(16, 4)
        )
    return Classifier(network)


def build(folder: str) -> None:
    storage.SHARD_IMAGES = 10
    relabel(source(), data(), folder, schedule=PGDSteps(20), batch=10, dtype="float16")


if __name__ == "__main__":
    many = "LOCAL_RANK" in os.environ
    if many:
        distributed.init_process_group("gloo")
    os.write(1, f"{os.getpid()}\n".encode())  # at once: two workers share the pipe
    build(sys.argv[1])
    if many:
        gc.collect()
        distributed.barrier()
        distributed.destroy_process_group()
