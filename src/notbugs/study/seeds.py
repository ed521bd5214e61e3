"""One recipe with several seeds."""

from __future__ import annotations

from pathlib import Path

from notbugs.errors import check_count, must
from notbugs.study.recipe import Recipe

MOST_SEEDS = 1000


def with_seeds(recipe: Recipe, count: int, out: Path) -> dict[Path, Recipe]:
    """The folder and the recipe of each of `count` studies, with the recipe's seed and those after it.

    One study has `out` for itself; each of several has `out/seed-SEED`.

    Raises
    ------
    InputError
        If `count` is below 1.

    Examples
    --------
    >>> from pathlib import Path
    >>> len(nb.study.with_seeds(nb.study.read_recipe('digits'), 3, Path('runs/digits')))
    3
    """
    if check_count("seeds", count) == 1:
        return {out: recipe}
    if count > MOST_SEEDS:
        raise must(
            "seeds", f"be at most {MOST_SEEDS:,}", count, "Run the others in another folder, from another --seed."
        )
    seeds = range(recipe.seed, recipe.seed + count)
    return {out / f"seed-{seed}": recipe.model_copy(update={"seed": seed}) for seed in seeds}
