"""`python -m benchmarks.company`: training beside another busy process, with threads that soon sleep and that spin.

Each training is a process of its own, in turns, of a ResNet-9 on random images of 32x32 pixels, on all processors but
as torch chooses; printed are the largest images a second, alone and beside a process that only counts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

import notbugs as nb

BATCH = 256
WAITING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
"""Variables that say how OpenMP's threads wait: the standard's, GNU's and Intel's."""
DEFAULT = "torch's default"
POLICIES: dict[str, dict[str, str]] = {
    DEFAULT: {},
    "soon asleep": {"GOMP_SPINCOUNT": "1000"},
    "asleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
}
"""The environment of each way to wait."""


def work(batches: int) -> float:
    """Images a second of one epoch."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.rand(BATCH * batches, 3, 32, 32, generator=draw)
    images = nb.Images(pixels, torch.arange(len(pixels)) % 10)
    data = nb.Data("random", images, images.subset(slice(100)), tuple("abcdefghij"))
    classifier = nb.new_classifier(data, "resnet9", width=16, precision="auto")
    how = nb.Training(epochs=1, batch=BATCH, lr=0.01)
    nb.train(classifier, images.subset(slice(2 * BATCH)), how)
    began = time.perf_counter()
    nb.train(classifier, images, how)
    return len(images) / (time.perf_counter() - began)


@contextmanager
def company(others: int) -> Iterator[None]:
    """Inside the block, so many other processes are busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    """Time all, or, in a process that was started for it, one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.company", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--batches", type=int, default=16, metavar="N", help="of an epoch; default: %(default)s")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(work(options.batches))
        return
    bare = {name: value for name, value in os.environ.items() if name not in WAITING | {"OMP_NUM_THREADS"}}
    command = [sys.executable, "-m", "benchmarks.company", "--one", "--batches", str(options.batches)]
    for others in (0, 1):
        best = dict.fromkeys(POLICIES, 0.0)
        with company(others):
            for _ in range(options.repeats):
                for name, policy in POLICIES.items():
                    done = subprocess.run(command, env=bare | policy, capture_output=True, text=True, check=True)
                    best[name] = max(best[name], float(done.stdout))
        ratios = "   ".join(f"{name} {speed:6.0f}" for name, speed in best.items())
        gain = best["soon asleep"] / best[DEFAULT]
        print(f"beside {others} busy process(es), images a second: {ratios}   soon asleep / default {gain:.2f}")


if __name__ == "__main__":
    main()
