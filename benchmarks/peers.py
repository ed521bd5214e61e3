"""Make the environments that the peers run in: `python -m benchmarks.peers [FOLDER]`.

The peers pin packages that we do not want, and two of them break each other, so they live in virtual environments of
the benchmark's own, with the same torch as the interpreter that runs this. Where that torch came from an index of its
own, name it: `PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu python -m benchmarks.peers`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

FOLDER = Path("~/.cache/notbugs-peers")
BASE = [f"{name}=={version(name)}" for name in ("torch", "numpy", "safetensors")]
NO_DEPENDENCIES = "--no-deps"
# torchattacks asks for a requests of 2020. torchvision on the package index is the CUDA build and asks for its own
# torch; search/shim.py makes its Python part importable beside any. secml-torch fails to import beside adv-lib.
ENVIRONMENTS: dict[str, list[list[str]]] = {
    "peers": [
        ["foolbox==3.3.4", "adversarial-robustness-toolbox==1.20.1"],
        ["packaging", "scipy", "scikit-learn", "six", "pillow"],
        [NO_DEPENDENCIES, "torchattacks==3.5.1", "secml-torch==1.5", "torchvision==0.28.0"],
    ],
    "adv-lib": [
        ["tqdm", "pillow", "setuptools<80", "wheel"],
        ["--no-build-isolation", "visdom==0.2.4"],  # its source needs an old setuptools
        [NO_DEPENDENCIES, "adv-lib==0.2.8", "torchvision==0.28.0"],
    ],
}  # fmt: skip


def interpreter(folder: Path, environment: str) -> Path:
    """The Python of one environment under `folder`."""
    return folder.expanduser() / environment / "bin" / "python"


def make(folder: Path) -> None:
    """Make every environment under `folder`, anew; pip's cache makes a second time quick."""
    for environment, groups in ENVIRONMENTS.items():
        python = interpreter(folder, environment)
        venv.create(python.parent.parent, clear=True, with_pip=True)
        for group in [BASE, *groups]:
            print(f"{environment}: {' '.join(group)}", flush=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *group], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, help=f"default: {FOLDER}")
    try:
        make(parser.parse_args().folder)
    except subprocess.CalledProcessError as error:
        sys.exit(f"pip failed: {' '.join(map(str, error.cmd))}")


if __name__ == "__main__":
    main()
