"""The report: one offline HTML page, made from the files of a study without running a model."""

from __future__ import annotations

import resource
from importlib.util import find_spec
from pathlib import Path

from notbugs._start import below
from notbugs.errors import InputError

_EXTRA = {"jinja2": "jinja2", "altair": "altair", "vl_convert": "vl-convert-python", "PIL": "pillow"}
_MEMORY = {"v": (resource.RLIMIT_AS, 68 * 2**30), "d": (resource.RLIMIT_DATA, 1200 * 2**20)}
"""What draws figures, V8, reserves so many addresses, though not the memory, and aborts the process where it cannot."""


def require_extra() -> None:
    """Check that the libraries of the page are installed and can work, before any work that ends in a report.

    Raises
    ------
    InputError
        If one is missing; the message names it and the command that installs it. If a limit of memory is too low.
    """
    missing = [package for module, package in _EXTRA.items() if find_spec(module) is None]
    if missing:
        raise InputError(f"The report needs {', '.join(missing)}. Install it with: pip install 'notbugs[report]'")
    if why := below(_MEMORY, "figures"):
        raise InputError(f"{why} Or draw elsewhere: `notbugs run --no-page` needs no figures.")


def write_report(folder: Path) -> Path:
    """Write `report.html` into the folder of a study and return its path.

    Reads `results.json` and, where there is one, `gallery.safetensors`. Takes seconds and runs no model. The page
    appears whole or not at all.

    Raises
    ------
    InputError
        If a library of the page is missing, or a file of the study is missing or malformed.
    """
    return _written(folder, "report")


def write_figures(folder: Path, out: Path | None = None) -> Path:
    """Write the figures and tables of a study for a paper, and return the folder they are in.

    Reads `results.json` and, where there is one, `gallery.safetensors`. Figures are SVG, PDF and PNG of 400 pixels an
    inch, in the width of a NeurIPS paper's text and in half of it; tables are LaTeX (booktabs), Markdown and CSV.

    Parameters
    ----------
    folder : Path
        The study's.
    out : Path, optional
        `folder`/figures by default. What is there already is written again.

    Raises
    ------
    InputError
        If a library of the figures is missing, a file of the study is missing or malformed, or `out` is a file.
    """
    require_extra()
    from notbugs.files import check_writable
    from notbugs.report.figures import write_all
    from notbugs.report.pictures import read_gallery
    from notbugs.study.results import read_results

    out = out or folder / "figures"
    check_writable(out)
    write_all(read_results(folder / "results.json"), read_gallery(folder / "gallery.safetensors"), out)
    return out


def write_transfer(folder: Path) -> Path:
    """Write `transfer.html` beside the `transfer.json` of `notbugs transfer`, from it alone, and return its path.

    Raises
    ------
    InputError
        If a library of the page is missing, or `transfer.json` is missing or malformed.
    """
    return _written(folder, "transfer")


def write_comparison(folder: Path) -> Path:
    """Write `compare.html` beside the `compare.json` of `notbugs compare`, from it alone, and return its path.

    Raises
    ------
    InputError
        If a library of the page is missing, or `compare.json` is missing or malformed.
    """
    return _written(folder, "compare")


def write_tune(folder: Path) -> Path:
    """Write `tune.html` beside the `tune.json` of `notbugs tune`, from it alone, and return its path.

    Raises
    ------
    InputError
        If a library of the page is missing, or `tune.json` is missing or malformed.
    """
    return _written(folder, "tune")


def write_audit_page(folder: Path) -> Path:
    """Write `audit.html` into the folder of an audit and return its path.

    Reads `audit.json` and, where there is one, `pictures.safetensors`; in the folder over the audits of several labels
    those of each. Takes seconds and runs no model. The page
    appears whole or not at all.

    Raises
    ------
    InputError
        If a library of the page is missing, or a file of the audit is missing or malformed.
    """
    return _written(folder, "audit")


def _written(folder: Path, name: str) -> Path:
    require_extra()
    from notbugs.files import write_text
    from notbugs.formats import harmless
    from notbugs.report.page import PAGES

    path = folder / f"{name}.html"
    write_text(path, harmless(PAGES[name](folder)))
    return path
