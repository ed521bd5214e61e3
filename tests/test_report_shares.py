"""The figures of the shares: that they say what was measured, and stay away where nothing was."""

from __future__ import annotations

from pathlib import Path

import pytest

from notbugs.report.section_charts import histograms, means
from notbugs.study.instruments.shares import shares_section
from notbugs.study.results import Measured

pytestmark = pytest.mark.whole

STUDY = Path(__file__).parent / "data" / "instruments.json"


@pytest.fixture(scope="module")
def found():
    return Measured.model_validate_json(STUDY.read_text(encoding="utf-8")).shares


def test_the_text_of_a_figure_has_every_mean_with_its_interval(found):
    rows = [row for row in found.rows if not row.is_source]
    drawn = means(rows, group="nonrobust", width=300)
    for row in rows:
        for seen in (row.found.nonrobust.new, row.found.nonrobust.original):
            mean = seen.carried
            assert f"{100 * mean.value:.1f} ({100 * mean.low:.1f} to {100 * mean.high:.1f})" in drawn
        for seen in (row.found.nonrobust.new.start, row.found.nonrobust.new.target):
            assert f"{100 * seen.share.value:.1f}" in histograms(rows, group="nonrobust", columns=2, width=100)


def test_a_group_without_features_has_no_figure(found):
    rows = [row.model_copy(update={"found": row.found.model_copy(update={"robust": None})}) for row in found.rows]
    assert means(rows, group="robust", width=300) is None
    assert histograms(rows, group="robust", columns=2, width=100) is None


def test_every_figure_is_drawn_wide_and_narrow(found):
    section = shares_section(found)
    assert section.figures
    assert all(len(figure.drawings) == 2 for figure in section.figures)
    assert "0072b2" in section.figures[0].drawings[0]


def test_no_axis_stands_where_no_panel_is(found):
    rows = list({row.name: row for row in found.rows if row.found.nonrobust}.values())
    assert len(rows) == 3
    drawn = histograms(rows, group="nonrobust", columns=2, width=100)
    assert drawn.count("mark-line role-mark") == 3 * len(rows)
    assert drawn.count("role-axis-label") == 2 * len(rows)
