"""What is published: a source distribution and the wheel made from it, with everything that a run needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
import yaml

import notbugs

ROOT = Path(__file__).parents[1]


def run(*command: object, cwd: Path, **environment: str) -> str:
    finished = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """The source distribution, and the wheel built from what it unpacks to."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=folder / source.name[:-7])
    (wheel,) = folder.glob("*.whl")
    return source, wheel


def test_the_wheel_has_all_that_the_package_has(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
    listed = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=False)
    tracked = {line.removeprefix("src/") for line in listed.stdout.splitlines() if (ROOT / line).exists()}
    assert tracked
    assert tracked <= names
    assert "notbugs/py.typed" in names
    assert not [name for name in names if re.search(r"__pycache__|\.pyc$|^tests/|^docs/", name)]


def test_the_source_distribution_has_what_a_reader_needs(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "tests/test_wheel.py"} <= names
    assert {"docs/index.md", "docs/tutorials/the-paper.ipynb", "mkdocs.yml", "scripts/site/hooks.py"} <= names
    assert not [name for name in names if name.startswith(("runs/", "site/", "build/", ".git/"))]


def test_the_metadata(built):
    with zipfile.ZipFile(built[1]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        text = wheel.read(name).decode()
        entry = wheel.read(name.replace("METADATA", "entry_points.txt")).decode()
    fields = HeaderParser().parsestr(text)
    assert fields["Version"] == notbugs.__version__
    assert fields["Requires-Python"] == ">=3.11"
    assert fields["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in fields.get_all("Classifier")
    assert {"study", "docs", "test", "pandas"} <= set(fields.get_all("Provides-Extra"))
    assert "notbugs = notbugs.__main__:main" in entry


def test_it_runs_where_only_the_wheel_is(built, tmp_path):
    """Installed into an empty folder; the libraries that it needs are those of this environment."""
    home = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", home]
    run(*pip, built[1], cwd=tmp_path, PIP_DISABLE_PIP_VERSION_CHECK="1")
    notbugs_of = [sys.executable, "-W", "error", "-P", "-m", "notbugs"]
    assert run(*notbugs_of, "--version", cwd=tmp_path, PYTHONPATH=str(home)).strip() == notbugs.__version__
    assert "digits" in run(*notbugs_of, "recipes", cwd=tmp_path, PYTHONPATH=str(home))
    code = "import notbugs; print(notbugs.__file__); print(len(notbugs.load('pneumonia').train))"
    where, count = run(sys.executable, "-P", "-c", code, cwd=tmp_path, PYTHONPATH=str(home)).splitlines()
    assert Path(where).is_relative_to(home)
    assert int(count) == 2000


def test_citation_and_changelog_are_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == notbugs.__version__
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "date-released", "license", "type"} <= set(citation)
    assert all(
        {"name"} & set(author) or {"family-names", "given-names"} <= set(author) for author in citation["authors"]
    )
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\S+)(?: \((\d{4}-\d\d-\d\d)\))?$", changes, re.MULTILINE)
    assert versions[0][0] == notbugs.__version__
    assert versions[0][1] == str(citation["date-released"])
    notes = (ROOT / "docs" / "releases" / f"{notbugs.__version__.rpartition('.')[0]}.md").read_text(encoding="utf-8")
    assert notes.startswith(f"# notbugs {notbugs.__version__.rpartition('.')[0]}")
