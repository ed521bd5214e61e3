"""`python -m benchmarks.memory`: the processor time of PGD with memory that is kept, and with memory handed back.

Both work in processes of their own, in turns, on digits of 32x32 pixels with a ResNet-9; printed are the medians and
the ratio. The C library must be glibc.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys

from torch.nn.functional import interpolate

import notbugs as nb
from notbugs.memory import keep_freed_memory

BATCH, STEPS = 250, 20


def work() -> dict[str, float]:
    """Processor time, seconds, and pages that the system had to give, for one search."""
    data = nb.load("digits")
    classifier = nb.new_classifier(data, "resnet9", width=16).eval()
    images, labels = data.test.batch(slice(BATCH))
    images = interpolate(images, scale_factor=4)
    threat = nb.L2(0.5)
    nb.pgd(classifier, images, labels, threat, nb.search.PGDSteps(2))
    before = resource.getrusage(resource.RUSAGE_SELF)
    nb.pgd(classifier, images, labels, threat, nb.search.PGDSteps(STEPS))
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "user": after.ru_utime - before.ru_utime,
        "system": after.ru_stime - before.ru_stime,
        "pages": after.ru_minflt - before.ru_minflt,
    }


def main() -> None:
    """Time both, or, in a process that was started for it, one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--one", choices=["kept", "handed back"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        if options.one == "kept":
            keep_freed_memory()
        print(json.dumps(work()))
        return
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    bare["OMP_NUM_THREADS"] = "1"
    seen: dict[str, list[dict[str, float]]] = {"handed back": [], "kept": []}
    for _ in range(options.repeats):
        for which, results in seen.items():
            command = [sys.executable, "-m", "benchmarks.memory", "--one", which]
            results.append(json.loads(subprocess.run(command, env=bare, capture_output=True, check=True).stdout))
    total = {}
    for which, results in seen.items():
        user, system, pages = (statistics.median(one[key] for one in results) for key in ("user", "system", "pages"))
        total[which] = user + system
        print(f"{which:12} user {user:6.2f} s   system {system:6.2f} s   pages {pages:10,.0f}")
    print(f"kept / handed back: {total['kept'] / total['handed back']:.2f} of the processor time")


if __name__ == "__main__":
    main()
