"""A study: one run of the whole chain from a recipe; it leaves one folder."""

from notbugs.study.chain import run
from notbugs.study.recipe import Recipe, read_recipe, recipe_names
from notbugs.study.results import Results, json_schema

__all__ = ["Recipe", "Results", "json_schema", "read_recipe", "recipe_names", "run"]
