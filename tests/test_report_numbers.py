"""Every number of the page's tables against `results.json`, read from the one and from the other and printed here anew.

`tests/data/instruments.json` are instruments of a real study of the digits, with fewer rows.
"""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from notbugs.report import write_report
from notbugs.study.instruments import renamed
from notbugs.study.results import Measured
from tests import fakes

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parent
REAL = ROOT.parent / "results" / "cifar10-cnn" / "results.json"
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")
RELABELLED = ("D", "D_rand", "D_rand_other", "D_det")
KINDS = ("robust", "undecided", "nonrobust", "useless")


class Tables(HTMLParser):
    """By section: its tables, each as the rows of its body, each row as the texts of its cells."""

    def __init__(self, html):
        super().__init__()
        self.found, self.section, self.is_body, self.is_cell = {}, None, False, False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "section":
            self.section = self.found.setdefault(dict(attrs)["id"], [])
        elif tag == "tbody":
            self.is_body = True
            self.section.append([])
        elif tag == "tr" and self.is_body:
            self.section[-1].append([])
        elif tag in ("th", "td") and self.is_body:
            self.is_cell = True
            self.section[-1][-1].append("")
        elif tag == "br" and self.is_cell:
            self.handle_data(" ")

    def handle_endtag(self, tag):
        if tag == "tbody":
            self.is_body = False
        elif tag in ("th", "td"):
            self.is_cell = False

    def handle_data(self, data):
        if self.is_cell:
            self.section[-1][-1][-1] += data


def numbers(table):
    """What each row says in its cells after the first, which names it."""
    return [NUMBER.findall(" ".join(cell.replace("95\u00a0% below", "below") for cell in row[1:])) for row in table]


def of_share(share):
    """A proportion, a row or a mean as a table prints it: value, low, high, in per cent."""
    value = share["accuracy"] if "accuracy" in share else share["value"]
    return (
        [f"{100 * part:.1f}".replace("-0.0", "0.0") for part in (value, share["low"], share["high"])] if share else []
    )


def shares(of, *names):
    return [part for name in names if of[name] for part in of_share(of[name])]


def whole(value):
    return f"{value:,}"


def four(value):
    """Four significant digits, whole numbers as they are."""
    return whole(int(value)) if float(value).is_integer() else f"{value:.4g}"


def is_main(row, results):
    """Of the first seed, on test images, and clean or under an l2 attack."""
    return row["seed"] == results["study"]["seeds"][0] and row["test_set"] == "test" and (
        row["attack"] is None or (row["attack"]["norm"] == "l2" and row["attack"]["eps"] > 0)
    )  # fmt: skip


def accuracies(results):
    """By classifier, then by radius, the lowest accuracy that an attack left."""
    found = {}
    for row in filter(lambda row: is_main(row, results), results["rows"]):
        radius = row["attack"]["eps"] if row["attack"] else 0.0
        at = found.setdefault(row["classifier"], {})
        if radius not in at or row["accuracy"] < at[radius]["accuracy"]:
            at[radius] = row
    radii = sorted({radius for at in found.values() for radius in at})
    return [[part for radius in radii if radius in at for part in of_share(at[radius])] for at in found.values()]


def table_1(results, theirs):
    """Ours, then the paper's where it has one."""
    clean = {
        row["train_set"]: of_share(row)
        for row in results["rows"]
        if is_main(row, results)
        and row["attack"] is None
        and (row["training"], row["classifier"] != "independent") == ("standard", True)
    }
    return [clean[name] + theirs.get(name, []) for name in RELABELLED if name in clean]


def of_spread(spread):
    return [four(spread[name]) for name in ("median", "mean", "p95", "max")] if spread else []


def sets(made):
    """A list of numbers for every measure that some set has."""
    shown = [
        "kept_label",
        *(f"success_{of}" for of in ("source", "source_changed", "independent")),
        *("rises_source", "rises_independent", "success_8bit", "success_augmented"),
    ]
    rows = [[whole(one["n"]) for one in made]]
    rows += [[part for one in made if one.get(name) for part in of_share(one[name])] for name in shown]
    spreads = ("l2", "linf", "matching_loss", "distance_to_target")
    rows += [[part for one in made for part in of_spread(one[name])] for name in spreads]
    alike, sizes = ([one.get(name) for one in made if one.get(name)] for name in ("resemblance", "perturbation"))
    for by in ("pixels", "ssim", "robust features"):
        likes = [found for one in alike for found in one["measures"] if found["by"] == by]
        rows.append([part for found in likes for part in of_share(found["nearer_target"])])
    for name in ("judged_target", "judged_start"):
        rows.append([part for one in alike if one[name] for part in of_share(one[name])])
    rows += [[part for one in sizes for part in of_spread(one[name])] for name in ("to_nearest", "noticed")]
    return [row for row in rows if row]


def of_usefulness(found, classes):
    summaries = list(found["classifiers"].values())
    tables = [[[whole(len(of["spectrum"])), *(whole(of["of_features"][kind]) for kind in KINDS)] for of in summaries]]
    for of in summaries:
        rows = sorted(of["spectrum"], key=lambda row: -abs(row["rho"]))
        values = ("rho", "rho_low", "rho_high", "gamma", "gamma_low", "gamma_high")
        named = [(NUMBER.findall(classes[row["best_class"]]), row) for row in rows]
        every = [[*name, *(f"{row[value]:.2f}" for value in values)] for name, row in named]
        tables += [every[:10], every]
    return tables


def of_shares(found):
    groups = [row["found"][kind] for row in found["rows"] for kind in ("robust", "nonrobust")]
    return [[_carried(group) for group in groups]]


def _carried(group):
    if group is None:
        return []
    seen = [part for side in ("new", "original") for part in shares(group[side], "carried")]
    about = (f"{group['features']:.3g}", str(group["classes"]), str(group["new_wins"]["n"]))
    return [*about, *seen, *shares(group, "new_wins", "original_wins")]


def of_leakage(found):
    rows = []
    for leak in (row["leak"] for row in found["rows"]):
        beside = [f"{100 * value:.1f}" for value in (leak["chance"], *leak["shuffled"])]
        rows.append([*shares(leak, "accuracy"), *beside, *shares(leak, "fitted")])
    return [rows]


def of_controls(found):
    names = ("untouched", "success", "clean", "relabelled", "beyond")
    return [[[whole(row["n"]), *shares(row, *names)] for row in found["rows"]]]


def of_generalization_gap(found):
    rows = []
    for number, part in enumerate(found["parts"]):
        at = [of for place in found["places"] for of in of_share(place["accuracies"][number]["share"])]
        rows.append([*at, *shares(part, "generalisation", "shift")])
    return [rows]


def of_transfer(found):
    rows = [[whole(at["parameters"]), *shares(at, "learned", "untargeted", "targeted")] for at in found["learners"]]
    pairs = found["matrix"]["pairs"]
    sources = dict.fromkeys(pair["source"] for pair in pairs)
    tables = []
    for kind in ("untargeted", "targeted"):
        by = [[pair for pair in pairs if pair["source"] == source] for source in sources]
        table = [[part for pair in line for part in of_share(pair[kind])] for line in by]
        tables.append([*table, [part for pair in by[0] for part in _plain(pair, kind)]])
    return [rows, *tables] if len(rows) > 1 else tables


def _plain(pair, kind):
    if kind == "targeted":
        return of_share(pair["already_target"])
    right = pair["accuracy"]
    return of_share({"value": 1 - right["value"], "low": 1 - right["high"], "high": 1 - right["low"]})


def of_strong_attacks(found):
    attacks = [
        [
            part
            for name in ("clean", "pgd", "strong", "autoattack")
            if row[name]
            for part in of_share(row[name]["share"])
        ]
        + of_share(row["union"])
        for row in found["rows"]
    ]
    tests = [[part for name in ("clean", "robust") for part in _test(row[name])] for row in found["paired"]]
    return [attacks, tests]


def _test(test):
    return [f"{100 * test[name]:.1f}" for name in ("difference", "low", "high")] + [f"{test['p_value']:.2g}"]


def of_spatial(found):
    names = ("clean", "grid", "random", "gradient", "worst")
    return [[shares(row["accuracy"], *names) for row in found["rows"]]]


def of_corruptions(found):
    clean = [part for row in found["rows"] for part in of_share(row["clean"])]
    tables = []
    for kind in ("corruptions", "filters"):
        items = zip(*(row[kind] for row in found["rows"]), strict=True)
        tables.append([clean, *([part for item in line for part in of_share(item["share"])] for line in items)])
    return tables


def of_frequencies(found):
    names = ("success", "clean", "filtered")
    return [[[four(row["cutoff"]), whole(row["n"]), *shares(row, *names)] for row in found["rows"]]]


def of_set_radius(found):
    names = ("success", "clean", "leakage", "beyond")
    return [[[four(row["eps"]), str(row["repeat"]), whole(row["n"]), *shares(row, *names)] for row in found["rows"]]]


def of_set_size(found):
    return [[[whole(row["n"]), str(row["epochs"]), *shares(row, "clean")] for row in found["rows"]]]


def of_source_radius(found):
    rows = []
    for row in found["rows"]:
        for at in zip(row["source"], row["on_set"], row["taught"], strict=True):
            attack = [four(at[0]["attack"]["eps"])] if at[0]["attack"] else []
            lost = f"{100 * (at[0]['share']['value'] - at[2]['share']['value']):.1f}"
            rows.append([str(row["repeat"]), *attack, *(part for one in at for part in of_share(one["share"])), lost])
    return [rows]


def of_matching(found):
    sets, taught = [], []
    for row in found["rows"]:
        likes = {one["by"]: one for one in row["resemblance"]["measures"]} if row["resemblance"] else {}
        nearer = [likes[by]["nearer_target"] for by in ("pixels", "ssim", "robust features") if by in likes]
        spreads = [part for name in ("loss", "l2") for part in of_spread(row[name])]
        sets.append([whole(row["n"]), *spreads, *(part for one in nearer for part in of_share(one))])
        taught.append([part for one in row["accuracies"] for part in of_share(one["share"])])
    return [sets, taught]


def of_priors(found):
    rows = []
    for row in found["rows"]:
        counts = [whole(row["kinds"][kind]) for kind in ("robust", "nonrobust")] if row["kinds"] else []
        at = [part for one in row["accuracies"] for part in of_share(one["share"])]
        rows.append([*at, *counts, *shares(row, "taught", "aligned")])
    return [rows]


INSTRUMENTS = {
    "usefulness": of_usefulness, "shares": of_shares, "leakage": of_leakage, "controls": of_controls,
    "generalization_gap": of_generalization_gap, "frequencies": of_frequencies, "source_radius": of_source_radius,
    "set_radius": of_set_radius, "set_size": of_set_size, "matching": of_matching, "priors": of_priors,
    "transfer": of_transfer, "strong_attacks": of_strong_attacks, "spatial": of_spatial, "corruptions": of_corruptions,
}  # fmt: skip


@pytest.fixture(scope="module", params=["made up", "cifar10-cnn"])
def read(request, tmp_path_factory):
    """`results.json`, and the tables of the page made from it."""
    folder = tmp_path_factory.mktemp("study")
    if request.param == "made up":
        measured = Measured.model_validate_json((ROOT / "data" / "instruments.json").read_text(encoding="utf-8"))
        made = fakes.write_study(folder).model_copy(update={"instruments": measured})
        (folder / "results.json").write_text(made.model_dump_json(by_alias=True), encoding="utf-8")
    else:
        shutil.copy(REAL, folder)
    page = write_report(folder).read_text(encoding="utf-8")
    return json.loads((folder / "results.json").read_text(encoding="utf-8")), Tables(page).found


def test_accuracies(read):
    results, page = read
    assert sorted(numbers(page["bars"][0])) == sorted(accuracies(results))


def test_table_1(read):
    results, page = read
    theirs = {"D": ["95.3"], "D_rand": ["63.3"], "D_det": ["43.7"]}
    assert numbers(page["table-1"][0]) == table_1(results, theirs)


def test_sets(read):
    results, page = read
    found = [row for row, says in zip(numbers(page["sets"][0]), page["sets"][0], strict=True) if _is_measured(says)]
    assert found == sets(results["sets"])


def _is_measured(row):
    return not row[0].startswith(("Time", "Source", "Target"))


def test_every_number(read):
    results, page = read
    for row, found in zip(page["numbers"][0], results["rows"], strict=True):
        accuracy, n = row[6:8]
        assert NUMBER.findall(accuracy) == of_share(found)
        assert n == whole(found["n"])


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_instruments(read, name):
    results, page = read
    found = renamed(results.get("instruments", {})).get(name)
    assert (found is None) == (name not in page)
    if found:
        more = [results["study"]["data"]["classes"]] if name == "usefulness" else []
        assert [numbers(table) for table in page[name]] == INSTRUMENTS[name](found, *more)


def test_the_made_up_study_has_every_instrument():
    made_up = json.loads((ROOT / "data" / "instruments.json").read_text(encoding="utf-8"))  # with former names
    assert set(renamed(made_up)) == set(INSTRUMENTS)
    assert set(Measured.model_fields) == set(INSTRUMENTS)
