"""Results as tables: in a terminal, in a notebook, and for pandas."""

from __future__ import annotations

import pickle
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import torch

import notbugs as nb
from notbugs.search import Found
from notbugs.shown import Tabular, frame
from notbugs.study import read_results

STUDY = Path(__file__).parents[1] / "results" / "cifar10-cnn" / "results.json"


def cells(html: str) -> list[str]:
    found: list[str] = []
    parser = HTMLParser()
    parser.handle_data = found.append
    parser.feed(html)
    return found


@pytest.fixture(scope="module")
def classifier():
    return nb.new_classifier(nb.load("digits"), width=2, features=4)


def test_accuracies_are_a_list_and_a_table(classifier):
    test = nb.load("digits").test.sample(30, 0, "shown")
    found = nb.evaluate(classifier, test, radii=(0.5,), attack="pgd", steps=1)
    table = found.to_pandas()
    assert isinstance(found, list)
    assert [str(one) for one in found] == [str(one) for one in list(found)]
    assert table["attack"].tolist() == ["clean", "pgd"]
    assert table["eps"].tolist() == [0, 0.5]
    assert table["accuracy"].tolist() == [one.share.value for one in found]
    assert (table["low"] <= table["accuracy"]).all()
    assert (table["accuracy"] <= table["high"]).all()
    assert "pgd" in repr(found)
    assert "pixel units" in repr(found).splitlines()[0]
    assert "pgd" in cells(found._repr_html_())
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301


def test_usefulness_has_a_row_for_each_feature_and_class(classifier):
    data = nb.load("digits").take(40, 20, 0)
    found = nb.usefulness(classifier, data.train, data.test, nb.L2(0.5))
    table = found.to_pandas()
    assert len(table) == 4 * 10
    row = table[(table["feature"] == 3) & (table["class"] == 7)].iloc[0]
    assert row["rho"] == found.rho[3, 7].item()
    assert row["gamma_high"] == found.gamma_high[3, 7].item()
    assert "4 features" in repr(found)
    assert "and 10 more rows" in repr(found)
    assert "and 10 more rows" in found._repr_html_()


def test_a_study_is_a_table_of_its_accuracies():
    results = read_results(STUDY.parent)
    table = results.to_pandas()
    assert len(table) == len(results.rows)
    assert table["accuracy"].tolist() == [row.accuracy for row in results.rows]
    clean = table[(table["classifier"] == "D_det") & (table["eps"] == 0)].iloc[0]
    assert round(clean["accuracy"], 3) == 0.317  # as the README has it
    sets = results.sets_to_pandas()
    assert sets["name"].tolist() == [one.name for one in results.sets]
    assert sets["l2_mean"].tolist() == [one.l2.mean for one in results.sets]
    assert read_results(STUDY) == results


def test_what_is_shown_is_escaped():
    class Named(Tabular):
        heading = "<b>"

        def table_rows(self):
            return [{"name": "<script>", "value": 1 / 3, "none": None}]

    html = Named()._repr_html_()
    assert "<script>" not in html
    assert "<b>" not in html
    assert "0.3333" in html
    assert "none" not in html
    assert isinstance(Named().to_pandas(), pd.DataFrame)


def test_without_pandas_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(nb.InputError, match=r"pip install 'notbugs\[pandas\]'"):
        frame([])


def test_what_a_search_found_says_it_in_one_line():
    found = Found(torch.zeros(3, 1, 8, 8), torch.ones(3), torch.tensor([-1.0, 1, 2]), 5, 4, is_margin=True)
    assert "(3, 1, 8, 8)" in repr(found)
    assert "1 of 3" in repr(found)
    assert "\n" not in repr(found)
