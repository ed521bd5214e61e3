"""What a recipe expects, against what a run gave."""

from __future__ import annotations

import pytest

from notbugs.errors import InputError
from notbugs.report.core_tables import expected_section
from notbugs.report.page import render
from notbugs.study import Recipe, read_recipe, recipe_names
from notbugs.study.pipeline import against_expected, expected_lines
from notbugs.study.recipe import Expected
from tests import fakes

pytestmark = pytest.mark.whole

RANGES = {"attack": "pgd", "low": 0.6, "high": 0.7, "source": "a test"}


def recipe(*expected: Expected, **changes) -> Recipe:
    return Recipe(expected=expected, expected_data="digits", expected_time="a minute", **changes)


def found(*rows, expected: Expected, data: str = "digits", **changes):
    return against_expected(recipe(expected, **changes), data, rows)


@pytest.mark.parametrize(
    ("accuracy", "verdict"),
    [(0.65, "inside"), (0.6, "inside"), (0.7, "inside"), (0.72, "overlaps"), (0.58, "overlaps"), (0.9, "outside")],
)
def test_an_accuracy_is_inside_reaches_in_or_is_outside(accuracy, verdict):
    row = fakes.row("D_det", accuracy, n=100)
    assert found(row, expected=Expected(classifier="D_det", **RANGES)).compared[0].verdict == verdict


def test_an_expectation_is_of_its_classifier_at_its_radius():
    rows = fakes.row("D_R", 0.95, n=360), fakes.row("D_R", 0.65, eps=0.25), fakes.row("D_NR", 0.1, eps=0.25)
    clean, attacked = (Expected(classifier="D_R", radius=radius, **RANGES) for radius in (0.0, 0.25))
    compared = against_expected(recipe(clean, attacked), "digits", rows).compared
    assert [(item.found.value, item.verdict) for item in compared] == [
        (rows[0].accuracy, "outside"),
        (rows[1].accuracy, "inside"),
    ]


def test_a_set_that_the_study_does_not_have_is_passed_over():
    row = fakes.row("D_det", 0.65, n=100)
    there, absent = (Expected(classifier=name, **RANGES) for name in ("D_det", "D_bugs"))
    assert [item.classifier for item in against_expected(recipe(there, absent), "digits", [row]).compared] == ["D_det"]


def test_what_is_outside_is_said_with_its_source():
    lines = [*expected_lines(found(fakes.row("D_det", 0.9), expected=Expected(classifier="D_det", **RANGES)))]
    assert "0 are inside" in lines[0]
    assert "1 are outside" in lines[0]
    assert lines[1].startswith("Outside: D_det clean 90.0%")
    assert "expected 60.0 to 70.0% (a test)" in lines[1]


def test_other_data_is_not_compared():
    result = found(fakes.row("D_det", 0.9), expected=Expected(classifier="D_det", **RANGES), data="faces")
    assert (result.compared, result.departures) == ([], ["data"])
    assert [*expected_lines(result)] == ["What the recipe expects does not apply here: other data."]
    asked = Recipe(expected=[Expected(classifier="D_det", **RANGES)])
    assert against_expected(asked, "faces", [fakes.row("D_det", 0.65)]).compared[0].verdict == "inside"


def test_a_recipe_without_expectations_has_none():
    assert against_expected(Recipe(), "digits", []) is None
    assert read_recipe("images", {"data": "x", "standard": {"epochs": 1}}).departures == ()


def test_only_what_changes_the_numbers_departs():
    free = {"seed": 3, "device": "cpu", "precision": "bf16", "data": "a/copy", "instruments": {"all": True}}
    assert read_recipe("digits", free).departures == ()
    changed = read_recipe("digits", {"train_images": 9, "robust": {"adversary": {"eps": 0.5}}})
    assert changed.departures == ("robust.adversary.eps", "train_images")
    same = read_recipe("digits", {"architecture": {"width": 16}})
    assert same.departures == ()


def test_a_written_recipe_remembers_that_it_departs(tmp_path):
    changed = read_recipe("digits", {"train_images": 9})
    file = tmp_path / "recipe.toml"
    file.write_text(changed.toml())
    assert read_recipe(file) == changed
    assert read_recipe(file, {"test_images": 7}).departures == ("train_images", "test_images")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{classifier = "D_R", low = 0.7, high = 0.6, source = "x"}', "low may not be above high"),
        ('{classifier = "D_R", radius = 9.0, low = 0.6, high = 0.7, source = "x"}', "radii of the evaluation"),
        ('{classifier = "D_X", low = 0.6, high = 0.7, source = "x"}', "expected.0.classifier"),
    ],
)
def test_a_wrong_expectation_is_refused(text, match, tmp_path):
    file = tmp_path / "wrong.toml"
    file.write_text(f'expected_data = "digits"\nexpected = [{text}]\nrobust.adversary.eps = 0.5\n')
    with pytest.raises(InputError, match=match):
        read_recipe(file)


def test_every_recipe_that_comes_along_is_read():
    for name in recipe_names():
        read_recipe(name)


def test_the_page_shows_the_table_and_what_was_not_compared():
    asked = [Expected(classifier="D_det", **RANGES), Expected(classifier="D_R", radius=0.25, **RANGES)]
    made = fakes.results()
    made = made.model_copy(update={"expected": against_expected(recipe(*asked), "digits", made.rows)})
    section = expected_section(made)
    assert [row[4] for row in section.tables[0].rows] == ["inside", "outside"]
    page = render(made, None)
    assert "The recipe expects a minute." in page
    assert "60.0–70.0" in page
    other = made.model_copy(update={"expected": against_expected(recipe(*asked), "faces", made.rows)})
    assert "other settings: data." in render(other, None)
    assert "As expected?" not in render(fakes.results(), None)
