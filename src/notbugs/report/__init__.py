"""The report: one offline HTML page, made from the files of a study without running a model."""

from __future__ import annotations

import resource
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from notbugs._start import below
from notbugs.errors import InputError

_EXTRA = {"jinja2": "jinja2", "altair": "altair", "vl_convert": "vl-convert-python", "PIL": "pillow"}
_MEMORY = {"v": (resource.RLIMIT_AS, 68 * 2**30), "d": (resource.RLIMIT_DATA, 1200 * 2**20)}
"""What draws figures, V8, reserves so many addresses, though not the memory, and aborts the process where it cannot."""


PAGES = {
    "report": "notbugs.report.page",
    "theory": "notbugs.report.theory",
    "transfer": "notbugs.study.jobs.transfer",
    "tune": "notbugs.study.jobs.tune",
    "compare": "notbugs.study.jobs.compare",
    "audit": "notbugs.study.jobs.audit",
}
"""The module of every page, by its name without `.html`: the module's `page` makes it from the files of a folder."""


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


def write_theory(folder: Path | str, seed: int = 0) -> Path:
    """Check the theorems on two Gaussians, write `theory.html` and `theory.json`, and return the page's path.

    Takes about 15 seconds; a second page of the same seed, in one process, takes less than one.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    seed : int
        Of all simulations; the same seed gives the same numbers on the same machine.

    Raises
    ------
    InputError
        If `folder` is a file, or a library of the page is missing.

    Examples
    --------
    >>> page = nb.report.write_theory('theory')  # doctest: +SKIP
    """
    require_extra()
    from notbugs.files import check_writable, write_json
    from notbugs.theory.experiments import compute

    folder = Path(folder)
    check_writable(folder)
    numbers = compute(seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "theory.json", numbers)
    return _written(folder, "theory")


def drawn(folder: Path, name: str) -> str:
    """The page of that name, one of `PAGES`, from the files of a folder."""
    from notbugs.formats import harmless

    return harmless(import_module(PAGES[name]).page(folder))


def _written(folder: Path, name: str) -> Path:
    require_extra()
    from notbugs.files import write_text

    path = folder / f"{name}.html"
    write_text(path, drawn(folder, name))
    return path
