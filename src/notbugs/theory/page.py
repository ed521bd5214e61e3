"""The theory page: one offline HTML file, and theory.json with every number on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from notbugs.errors import InputError
from notbugs.files import check_writable, csp_hash, write_json, write_text
from notbugs.theory.charts import charts
from notbugs.theory.experiments import Numbers, compute, live_pair, panel
from notbugs.theory.svg import panel_svg

_computed = cache(compute)  # studies with several seeds have the same page

_LEGEND = (
    ("true", "true Gaussian"),
    ("learned", "learned Gaussian"),
    ("ball", "l2 ball of the radius"),
    ("boundary", "decision boundary"),
    ("gradient", "input gradient"),
    ("means", "difference of the means"),
)
_LIVE_ROWS = (
    ("multiplier", "multiplier λ"),
    ("wide", "larger variance"),
    ("narrow", "smaller variance"),
    ("condition", "their ratio"),
    ("cosine", "cosine of gradient and means"),
    ("slope", "slope of the boundary"),
    ("clean_error", "clean error"),
    ("robust_error", "robust error"),
    ("standard_robust_error", "standard classifier’s robust error"),
)


def write_theory_page(folder: Path | str, seed: int = 0) -> Path:
    """Compute everything and write `theory.html` and `theory.json` into `folder`; takes about 15 seconds.

    Each file appears whole or not at all. Needs the extra `report` (Jinja2).

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    seed : int
        Of all simulations; the same seed gives the same numbers on the same machine.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    InputError
        If `folder` is a file, or Jinja2 is not installed.

    Examples
    --------
    >>> page = nb.theory.write_theory_page('theory')  # doctest: +SKIP
    """
    folder = Path(folder)
    check_writable(folder)
    _environment()
    numbers = _computed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "theory.json", numbers)
    page = folder / "theory.html"
    write_text(page, render(numbers))
    return page


def render(numbers: Numbers) -> str:
    """The page as HTML, from `compute`'s numbers alone."""
    from markupsafe import Markup

    style, script = _read("theory.css"), _read("live.js")
    settings = json.dumps({**numbers["live"], "seed": numbers["seed"]}).replace("</", "<\\/")
    start = numbers["live"]["start"]
    pair = live_pair(start["condition"], start["angle"], numbers["live"])
    live = panel_svg(panel(pair, start["radius"]), "live-figure", "Figure 4, drawn for the sliders’ values")
    panels = numbers["figure4"]["panels"]
    return (
        _environment()
        .get_template("theory.html.j2")
        .render(
            n=numbers,
            style=Markup(style),
            script=Markup(script),
            style_hash=csp_hash(style),
            script_hash=csp_hash(script),
            settings=Markup(settings),
            legend=_LEGEND,
            live_rows=_LIVE_ROWS,
            live_figure=Markup(live),
            panel_figures=[Markup(panel_svg(p, f"panel-{i}", _describe(p))) for i, p in enumerate(panels)],
            panel_rows=[[p[key] for key in _PANEL_KEYS] for p in panels],
            charts={name: Markup(chart.svg()) for name, chart in charts(numbers).items()},
            point_rows=_point_rows,
            theorem2_rows=[
                [_theorem2_cell(row, key) for key in _THEOREM2_KEYS] for row in numbers["theorem2"]["table"]
            ],
            way_rows=[_way_row(row) for row in numbers["three_ways"]],
            verdicts=_verdicts(numbers),
        )
    )


_PANEL_KEYS = (
    "radius",
    "multiplier",
    "condition",
    "cosine",
    "clean_error",
    "robust_error",
    "standard_robust_error",
)
_THEOREM2_KEYS = (
    "budget",
    "robust",
    "multiplier",
    "lower",
    "upper",
    "condition",
    "certificate",
    "within_sufficient",
)


def show(value: Any) -> str:
    """A number with four significant digits, a truth as a word, a text as it is."""
    if value is None:
        return "infinite"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return str(value)


def _verdicts(numbers: Numbers) -> dict[str, str]:
    """How many of the intervals hold the formula, counted."""
    blocks = {f"theorem{k}": numbers[f"theorem{k}"]["points"] for k in (1, 2, 3)} | {"errors": numbers["errors"]}
    said = {}
    for name, points in blocks.items():
        counted = [p["holds"] for p in points if p.get("adversary") != "sample"]
        said[name] = f"The formula lies in {sum(counted)} of {len(counted)} intervals."
    return said


def _point_rows(points: Sequence[Numbers], keys: Sequence[str]) -> list[list[Any]]:
    return [[p[key] for key in (*keys, "formula", "value", "low", "high", "holds")] for p in points]


def _theorem2_cell(row: Numbers, key: str) -> Any:
    return ", ".join(show(value) for value in row[key]) if key == "robust" else row[key]


def _way_row(row: Numbers) -> list[Any]:
    cells = [row["way"], row["problem"], row["radius"]]
    for axis in ("wide", "narrow"):
        check = row.get(f"{axis}_check")
        cells.append(show(row[axis]) + (f" ± {(check['high'] - check['low']) / 2:.2g}" if check else ""))
    return cells


def _describe(p: Numbers) -> str:
    wide, narrow = p["robust_covariance"][0][0], p["robust_covariance"][1][1]
    return (
        f"Two Gaussians and those learned at radius {p['radius']:g}: variances {wide:.4g} and {narrow:.4g}, "
        f"boundary slope {p['slope']:.3g}, cosine of the input gradient with the means {p['cosine']:.3g}."
    )


def _environment() -> Any:
    try:
        import jinja2
    except ImportError:
        raise InputError("The theory page needs Jinja2: pip install 'notbugs[report]'") from None
    loader = jinja2.FunctionLoader(_read)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["show"] = show
    return environment


def _read(name: str) -> str:
    return (files("notbugs.theory") / "templates" / name).read_text(encoding="utf-8")
