"""Commands, made from the functions of the library; no logic of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from notbugs import study
from notbugs._version import __version__
from notbugs.console import TerminalConsole
from notbugs.errors import check_count
from notbugs.report import require_extra, write_report
from notbugs.study import Recipe
from notbugs.theory import write_theory_page

app = App(
    name="notbugs",
    version=__version__,
    help="A laboratory for robust and non-robust features.",
    default_parameter=Parameter(consume_multiple=True),
)
NO_SETTINGS = Recipe()


@app.command
def run(
    recipe: str,
    /,
    *,
    out: Path | None = None,
    quiet: bool = False,
    settings: Annotated[Recipe, Parameter(name="*", show_default=False)] = NO_SETTINGS,
) -> None:
    """Run a study: train, build the constructed sets, train on them, measure, report.

    The same command again goes on where a killed run stopped. The last line printed is the path of the report.

    Parameters
    ----------
    recipe
        A recipe by name (`notbugs recipes` lists them), or a TOML file. Every option below overrides it.
    out
        The study's folder; runs/NAME by default.
    quiet
        Print only the path of the report.
    """
    require_extra()
    resolved = study.read_recipe(recipe, settings.model_dump(exclude_unset=True))
    folder = out or Path("runs") / resolved.name
    console = TerminalConsole(quiet=quiet)
    study.run(resolved, folder, console)
    if not (folder / "theory.html").exists():
        with console.stage("the theory, checked"):
            write_theory_page(folder)
    print(write_report(folder))


@app.command
def report(folder: Path, /) -> None:
    """Write a study's report again, from its results.

    Parameters
    ----------
    folder
        The study's folder.
    """
    print(write_report(folder))


@app.command
def theory(*, out: Path = Path("runs/theory"), seed: int = 0) -> None:
    """Check the paper's three theorems on two Gaussians, and write a page to play with.

    The last line printed is the path of the page; `theory.json` beside it has every number.

    Parameters
    ----------
    out
        The folder to write to.
    seed
        Of all simulations.
    """
    check_count("seed", seed, low=0)
    print(write_theory_page(out, seed))


@app.command
def recipes() -> None:
    """List the recipes that come with notbugs."""
    for name in study.recipe_names():
        print(name)
