"""Every recipe that comes with notbugs, from its file."""

from __future__ import annotations

from pathlib import Path

from notbugs import catalogue
from notbugs.study import Recipe, read_recipe, recipe_names

FOLDER = Path(__file__).parents[2] / "src" / "notbugs" / "study" / "recipes"


def recipe_page() -> str:
    """The page."""
    parts = ["# Recipes", "`notbugs run NAME` runs a recipe. Every setting in it is an option of the command."]
    parts += [_overview()]
    for name in recipe_names():
        recipe = read_recipe(name, is_run=False)
        parts += [f"## {name}", recipe.about]
        if recipe.expected_time:
            parts += [f"**Time:** {recipe.expected_time}"]
        if recipe.expected:
            parts += ["What it is expected to give, and where that comes from:", _expected(recipe)]
        parts += [f"```toml\n{(FOLDER / f'{name}.toml').read_text(encoding='utf-8').strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _overview() -> str:
    rows = ["| recipe | what | data | time | clean test accuracy |", "|---|---|---|---|---|"]
    for row in catalogue.rows():
        cells = [row[key].replace("_", "\\_") for key in ("about", "data", "time", "gives")]
        rows.append(f"| [{row['name']}](#{row['name']}) | {' | '.join(cells)} |")
    return "\n".join(rows)


def _expected(recipe: Recipe) -> str:
    rows = ["| classifier | radius | attack | between | source |", "|---|---|---|---|---|"]
    for item in recipe.expected:
        attack = item.attack if item.radius else "clean"
        rows.append(
            f"| {item.classifier.replace('_', chr(92) + '_')} | {item.radius:g} | {attack} | "
            f"{100 * item.low:g} to {100 * item.high:g} % | {item.source} |"
        )
    return "\n".join(rows)
