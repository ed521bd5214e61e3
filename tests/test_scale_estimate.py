"""The arithmetic of docs/how-to/scale.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scale_estimate import Size, costs, main, table
from notbugs.study import read_recipe

UNIT = Size(train=10, test=4, pixels=2, forward=1.0, device=1.0, share=1.0)
SMALL = {
    "standard": {"epochs": 2},
    "robust": {"epochs": 3, "adversary": {"steps": 5}},
    "constructed": {"epochs": 1},
    "matching": {"steps": 7},
    "relabelling": {"steps": 6},
    "evaluation": {"steps": 4, "restarts": 2, "radii": [0.1, 0.2, 0.3]},
    "storage": {"dtype": "float16"},
}


def test_every_stage_by_hand():
    found = {at.stage: at for at in costs(read_recipe("digits", SMALL), UNIT, weights=100)}
    assert found["train standard"].passes == 10 * 2 * 3
    assert found["train robust"].passes == 10 * 3 * (3 + 2 * 5)
    assert found["build D_R"].passes == 10 * (1 + 2 * 7)
    assert found["build D_det"].passes == 10 * (1 + 2 * 6)
    assert found["train on D_det"].passes == 10 * 3
    assert found["measure D_det"].passes == 4 * (1 + 3 * 2 * 4 * 2)
    assert found["build D_R"].bytes == 10 * 3 * 2 * 2 * 2
    assert found["train on D_R"].bytes == 400
    assert found["the whole study"].passes == sum(at.passes for at in found.values()) / 2
    assert found["train standard"].hours == pytest.approx(60 / 3600)


@pytest.mark.parametrize(("change", "factor"), [({"devices": 4}, 1 / 4), ({"share": 0.5}, 2), ({"forward": 3.0}, 3)])
def test_hours_grow_with_each_factor(change, factor):
    recipe = read_recipe("digits", SMALL)
    one, other = (costs(recipe, Size(**vars(UNIT) | more))[-1].hours for more in ({}, change))
    assert other == pytest.approx(factor * one)


def test_the_page_has_the_tables_that_the_commands_print(capsys):
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "scale.md").read_text(encoding="utf-8")
    for given in ([], ["--matching-steps", "60", "--relabelling-steps", "20", "--epochs", "16"]):
        main(given)
        assert capsys.readouterr().out in page
    assert table([]).count("\n") == 1
