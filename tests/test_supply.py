"""The scripts of the supply: a bill of materials, and constraints with hashes."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec
    assert spec.loader
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


class Metadata(dict):
    def get_all(self, name, default):
        return self.get(name, default)


def a_distribution(name, version, requires=None, **metadata):
    return SimpleNamespace(metadata=Metadata(Name=name, **metadata), version=version, requires=requires)


def test_a_bill_of_known_distributions():
    found = [
        a_distribution("notbugs", "0.1.0", ["My.Pkg>=2", 'hidden; extra == "test"', "missing"]),
        a_distribution("My_Pkg", "2.0+cpu", **{"License-Expression": "MIT"}),
        a_distribution("hidden", "1", License="BSD"),
        a_distribution("my-pkg", "1.0"),  # a second one, which Python does not import
    ]
    made = script("sbom").bill(found)
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.5")
    assert made["metadata"]["component"]["bom-ref"] == "pkg:pypi/notbugs@0.1.0"
    assert [(one["name"], one["version"]) for one in made["components"]] == [("hidden", "1"), ("my-pkg", "2.0+cpu")]
    assert made["components"][1]["purl"] == "pkg:pypi/my-pkg@2.0%2Bcpu"
    assert made["components"][1]["licenses"] == [{"expression": "MIT"}]
    needs = {one["ref"]: one["dependsOn"] for one in made["dependencies"]}
    assert needs["pkg:pypi/notbugs@0.1.0"] == ["pkg:pypi/my-pkg@2.0%2Bcpu"]
    assert script("sbom").bill(found) == made


def test_the_bill_of_this_environment_is_complete_and_the_same_twice():
    first, second = (subprocess.check_output([sys.executable, SCRIPTS / "sbom.py"], text=True) for _ in range(2))
    assert first == second
    made = json.loads(first)
    names = {one["name"] for one in made["components"]}
    assert {"torch", "numpy", "safetensors", "pydantic"} <= names
    refs = [one["bom-ref"] for one in made["components"]]
    assert len(refs) == len(set(refs))
    assert {other for one in made["dependencies"] for other in one["dependsOn"]} <= set(refs)


def test_a_known_version_with_other_bytes_is_a_fault():
    known = ["rich==15.0.0 --hash=sha256:aa --hash=sha256:bb", "tomli-w==1.2.0 --hash=sha256:cc"]
    found = ["rich==15.0.0 --hash=sha256:bb", "tomli-w==1.2.0 --hash=sha256:dd", "new==1 --hash=sha256:ee"]
    assert script("hashes").compared(found, known) == (["tomli-w==1.2.0"], ["new==1"])


def test_ci_knows_the_hash_of_what_it_installs():
    """After a change of constraints.txt: `python scripts/hashes.py test > .ci/hashes.txt`."""
    known = (ROOT / ".ci" / "hashes.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[\w.+-]+==[\w.+!]+( --hash=sha256:[0-9a-f]{64})+", line) for line in known)
    versions = dict(line.partition(" ")[0].partition("+")[0].split("==") for line in known)
    pins = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line]
    pinned = dict(line.split("==") for line in pins if not line.startswith("#"))
    assert {name: versions[name] for name in pinned.keys() & versions.keys()} == {
        name: version for name, version in pinned.items() if name in versions
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert script("versions").bounds(project, ("study", "scale")).keys() <= versions.keys()


def test_constraints_with_hashes():
    digest = "ab" * 32
    wheel = {"url": "https://x/y.whl", "archive_info": {"hashes": {"sha256": digest}}}
    report = {
        "install": [
            {"metadata": {"name": "tomli_w", "version": "1.2.0"}, "download_info": wheel},
            {
                "metadata": {"name": "notbugs", "version": "0.1.0"},
                "download_info": {"url": "file:///x", "dir_info": {}},
            },
            {"metadata": {"name": "Rich", "version": "15.0.0"}, "download_info": wheel},
        ]
    }
    assert script("hashes").lines(report) == [
        f"rich==15.0.0 --hash=sha256:{digest}",
        f"tomli-w==1.2.0 --hash=sha256:{digest}",
    ]
