"""Run the fast part of the tests with the oldest or the newest versions of what notbugs needs.

    python scripts/versions.py oldest [--python python3.11] [--with torch==2.13.0 ...] [--keep FOLDER] [TEST ...]

`oldest` takes the lower bound that pyproject.toml has for every package of the core and of the extras `study` and
`scale`, `newest` whatever pip finds; `--with` takes the place of either, for a package whose wheels are not at hand.
The environment is made in a temporary folder, or kept in FOLDER and used again. The versions are printed first.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXTRAS = ("study", "scale")
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "beartype", "pyyaml")
TESTS = (
    *("threat", "search", "training", "classifier", "models", "models_checkpoint", "models_hostile", "models_weights"),
    *("data", "data_npz", "data_parquet", "data_folder", "data_decode", "construct", "store", "measure"),
    *("boundary", "cli", "cli_steps", "trust", "hostile", "mutations", "study", "report", "figures"),
)
"""What meets Python, numpy, torch and their files most, and needs nothing of other extras."""
SHOWN = (
    "import importlib.metadata as m, sys; print(sys.version.split()[0], *(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
)


def bounds(project: dict[str, Any], named: tuple[str, ...]) -> dict[str, str]:
    """The lower bound of every direct requirement, as `>=` has it, by the package's name."""
    extras, found = project["optional-dependencies"], dict[str, str]()
    wanted = [*project["dependencies"], *(each for name in named for each in extras[name])]
    while wanted:
        one = wanted.pop()
        if inner := re.fullmatch(r"notbugs\[(.*)\]", one):
            wanted += [each for name in inner[1].split(",") for each in extras[name]]
        elif bound := re.match(r"([\w.-]+)>=([\d.]+)", one):
            found[bound[1]] = max(found.get(bound[1], "0"), bound[2], key=lambda text: [*map(int, text.split("."))])
    return found


def pins(found: dict[str, str]) -> list[str]:
    """As requirements: the first release of that series, with what mended it."""
    return [f"{name}=={bound}{'.0' * (1 - bound.count('.'))}.*" for name, bound in sorted(found.items())]


def environment(folder: Path, python: str, requirements: list[str]) -> Path:
    """An environment with notbugs, what it needs and what tests it; return its Python."""
    made = folder / "bin" / "python"
    if not made.exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
    install = [made, "-m", "pip", "install", "--quiet", "-e", f"{ROOT}[{','.join(EXTRAS)}]", *TOOLS, *requirements]
    subprocess.run(install, check=True)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["oldest", "newest"])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--with", dest="given", nargs="+", default=[], metavar="PACKAGE==VERSION")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument(
        "tests", nargs="*", metavar="TEST", help="of tests/test_TEST.py; those that meet most by default"
    )
    given = parser.parse_intermixed_args()  # tests may stand after options
    least = bounds(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"], EXTRAS)
    replaced = {re.split("[=<>]", one)[0] for one in given.given}
    pinned = [pin for pin in pins(least) if given.which == "oldest" and pin.partition("==")[0] not in replaced]
    with tempfile.TemporaryDirectory() as folder:
        python = environment((given.keep or Path(folder)).resolve(), given.python, [*pinned, *given.given])
        subprocess.run([python, "-c", SHOWN, *least], check=True)
        files = [f"tests/test_{name}.py" for name in given.tests or TESTS]
        chosen = "not slow and not gpu and not browser"
        bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [python, "-m", "pytest", "-q", "-p", "no:anyio", "-m", chosen, *files], cwd=ROOT, env=bare
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
