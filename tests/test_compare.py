"""Several studies on one page: known answers of tests and spreads, hostile names, and a real run with two seeds."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from scipy.special import stdtrit

from notbugs.__main__ import main
from notbugs.console import TerminalConsole
from notbugs.data import Images
from notbugs.errors import InputError
from notbugs.files import sha256
from notbugs.formats import percent, signed
from notbugs.measure import AttackUsed, Outcome, holm, over_seeds, paired, welch
from notbugs.report import write_comparison
from notbugs.report.compare import findings, listed_pairs
from notbugs.study import Comparison, compare, read_recipe, with_seeds
from notbugs.study.results import Results, read_outcomes, read_results, write_outcomes
from tests import fakes
from tests.test_cli import flags
from tests.test_report import Page
from tests.test_report_browser import CHROMIUM, browser, faults, opened  # noqa: F401  a fixture

pytestmark = pytest.mark.whole

QUIET = TerminalConsole(quiet=True)
N = 40
ATTACK = AttackUsed(norm="l2", eps=0.5, steps=20, step_size=0.0625, restarts=2)
IMAGES = Images(torch.arange(N * 4, dtype=torch.uint8).view(N, 1, 2, 2), torch.arange(N) % 2)
OTHERS = Images(IMAGES.pixels, 1 - IMAGES.labels)


def first(count: int) -> torch.Tensor:
    """Right about the first so many images."""
    return torch.arange(N) < count


def outcomes(clean: torch.Tensor, robust: torch.Tensor, attack: AttackUsed = ATTACK) -> list[Outcome]:
    return [Outcome(None, clean), Outcome(attack, robust & clean)]


PLAIN = {"standard": outcomes(first(36), first(10)), "D_R": outcomes(first(30), first(20))}


def made(
    folder: Path,
    found: dict[str, list[Outcome]] = PLAIN,
    *,
    seed: int = 0,
    images: Images | None = IMAGES,
    recipe: dict | None = None,
    fingerprint: str = "b7",
    hostile: bool = False,
) -> Path:
    """A study made by hand, with outcomes if there are `images`."""
    rows = []
    for name, items in found.items():
        for item in items:
            share = item.accuracy.share
            of = {"attack": item.attack, "accuracy": share.value, "low": share.low, "high": share.high}
            rows.append(fakes.row("D" if name == "standard" else name, classifier=name, n=share.n, seed=seed, **of))
        if images:
            write_outcomes(folder, name, items, images)
    info = fakes.study(hostile=hostile)
    changes = {
        "recipe": info.recipe | {"seed": seed} | (recipe or {}),
        "seeds": [seed],
        "data": info.data | {"fingerprint": fingerprint},
    }
    results = Results(study=info.model_copy(update=changes), rows=rows, sets=[])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(results.model_dump_json(by_alias=True), encoding="utf-8")
    (folder / "report.html").touch()
    return folder


def compared(tmp_path: Path, *folders: Path) -> Comparison:
    """What is found, as the file has it."""
    compare(folders, tmp_path / "out", QUIET)
    return Comparison.model_validate_json((tmp_path / "out" / "compare.json").read_text(encoding="utf-8"))


def shown(tmp_path: Path, *folders: Path) -> tuple[Comparison, Page]:
    """The same, and the page."""
    found = compared(tmp_path, *folders)
    return found, Page(write_comparison(tmp_path / "out").read_text(encoding="utf-8"))


# Known answers


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(InputError, match="between 0 and 1"):
        holm([1.5])


def test_welch_and_student_by_hand():
    """Welch 1947: variances 4e-4 of three and 4.5e-4 of two; Student: 12.706204736174698 for one degree of freedom."""
    one, other = [0.91, 0.89, 0.93], [0.85, 0.88]
    found = welch(one, other)
    squares = 4e-4 / 3, 4.5e-4 / 2
    freedom = sum(squares) ** 2 / (squares[0] ** 2 / 2 + squares[1] ** 2 / 1)
    half = stdtrit(freedom, 0.975) * math.sqrt(sum(squares))
    assert (found.low, found.high) == pytest.approx((0.045 - half, 0.045 + half), abs=1e-12)
    two = over_seeds(other)
    assert (two.low, two.high) == pytest.approx((0.865 - 0.19059307104262, 0.865 + 0.19059307104262), abs=1e-12)
    assert found.difference == pytest.approx(sum(one) / 3 - sum(other) / 2)
    half = welch([0.5, 0.5], [0.25, 0.35])  # of a side that does not differ the other has all the spread
    assert (half.low, half.high) == pytest.approx((0.2 - 12.706204736174698 * 0.05, 0.2 + 12.706204736174698 * 0.05))
    with pytest.raises(InputError, match="at least two of each"):
        welch([0.5], [0.5, 0.5])


def test_seeds_that_all_agree_claim_no_interval(tmp_path):
    """Two that agree by chance say nothing of how much seeds differ, so not that they never do."""
    same = welch([0.5, 0.5], [0.25, 0.25])
    assert (same.low, same.difference, same.high) == (None, 0.25, None)
    assert str(same) == "+0.25 (no interval: all equal)"
    over = over_seeds([0.5, 0.5])
    assert over.model_dump() == {"mean": 0.5, "deviation": 0.0, "low": None, "high": None, "n": 2}
    assert str(over) == "0.5 (no interval: all equal), 2 seeds"
    folders = [
        made(tmp_path / f"{name}-{seed}", {"D_R": [Outcome(None, first(count))]}, seed=seed, recipe={"stop": name})
        for name, count in (("a", 30), ("b", 20))
        for seed in (0, 1)
    ]
    _, page = shown(tmp_path, *folders)
    assert ": 75.0 (no interval: all seeds equal) clean" in page.text
    assert "0 of 1 means over seeds differ by an interval that leaves out 0. There is no interval for 1" in page.text
    assert "+25.0 no interval: all seeds equal" in page.text
    assert "75.0 to 75.0" not in page.text


def test_outcomes_come_back_as_they_were(tmp_path):
    write_outcomes(tmp_path, "D_R", PLAIN["D_R"], IMAGES)
    found = read_outcomes(tmp_path, "D_R")
    assert found
    assert found.test_images == IMAGES.fingerprint != OTHERS.fingerprint
    assert [item.attack for item in found.outcomes] == [None, ATTACK]
    for item, wrote in zip(found.outcomes, PLAIN["D_R"], strict=True):
        assert item.survived.dtype == torch.bool
        assert torch.equal(item.survived, wrote.survived)
    assert read_outcomes(tmp_path, "D_NR") is None
    assert (tmp_path / "outcomes" / "D_R.safetensors").stat().st_size < 2 * N + 1000


@pytest.mark.parametrize("damage", [b"", b"nothing", None])
def test_damaged_outcomes_are_named(tmp_path, damage):
    folders = [made(tmp_path / "a"), made(tmp_path / "b", seed=1)]
    file = folders[1] / "outcomes" / "D_R.safetensors"
    file.write_bytes(file.read_bytes()[:-3] if damage is None else damage)
    with pytest.raises(InputError, match=r"D_R\.safetensors is not a readable file of outcomes.*evaluate-D_R\.json"):
        compare(folders, tmp_path / "out", QUIET)
    assert not (tmp_path / "out").exists()


def test_outcomes_of_another_run_are_noticed(tmp_path):
    folders = [made(tmp_path / "a"), made(tmp_path / "b", seed=1)]
    write_outcomes(folders[1], "D_R", outcomes(first(7), first(3)), IMAGES)
    with pytest.raises(InputError, match="does not belong to results.json"):
        compare(folders, tmp_path / "out", QUIET)


def test_paired_tests_from_constructed_outcomes(tmp_path):
    """The standard ones differ on 12 images, all for the first: p = 2 / 2 ** 12. The D_R ones do not differ."""
    one = made(tmp_path / "one", PLAIN | {"standard": outcomes(first(36), first(22))})
    other = made(tmp_path / "other", PLAIN | {"standard": outcomes(first(36), first(10))}, seed=1)
    found, page = shown(tmp_path, one, other)
    (pair,) = found.pairs
    tests = {(row.classifier, row.under): row for row in pair.rows}
    robust = tests["standard", "l2 0.5"]
    assert robust.test == paired(first(22), first(10))
    assert (robust.test.first_only, robust.test.second_only) == (12, 0)
    assert robust.test.p_value == pytest.approx(2 / 2**12)
    assert robust.adjusted == pytest.approx(4 * 2 / 2**12)
    assert tests["D_R", "clean"].test.p_value == tests["D_R", "clean"].adjusted == 1.0
    assert (len(pair.rows), pair.untested) == (4, [])
    test = robust.test
    assert f"{signed(test.difference)} {signed(test.low)} to {signed(test.high)} p 0.00049*" in page.text
    assert "1 of 4 accuracies differ, p below 0.05, adjusted for all 4 tests" in page.text
    assert "D, standard, l2 0.5 (+30.0 points)" in page.text


def test_images_and_not_shares_decide(tmp_path):
    """Both are right about 20 of 40, on other images: a difference of 0 that no image shares."""
    one = made(tmp_path / "one", {"D_R": [Outcome(None, first(20))]})
    other = made(tmp_path / "other", {"D_R": [Outcome(None, ~first(20))]})
    (row,) = compared(tmp_path, one, other).pairs[0].rows
    assert (row.test.both, row.test.first_only, row.test.second_only, row.test.difference) == (0, 20, 20, 0.0)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"images": None}, "what became of each image is not on disk"),
        ({"images": OTHERS}, "the test images are others"),
        ({"found": {"standard": outcomes(first(36), first(9), ATTACK.model_copy(update={"steps": 9}))}}, "attacks"),
    ],
)
def test_what_cannot_be_tested_is_said(tmp_path, changes, why):
    one, other = made(tmp_path / "one"), made(tmp_path / "other", seed=1, **changes)
    found, page = shown(tmp_path, one, other)
    assert len(found.pairs[0].untested) == 1
    assert why in found.pairs[0].untested[0]
    assert why in page.text
    assert len(found.pairs[0].rows) == (1 if why == "attacks" else 0)
    assert [study.has_outcomes for study in found.studies] == [True, why[:4] != "what"]
    assert ("Made before it was kept" in page.text) == (why[:4] == "what")
    assert found.measures[0].shares[1]


def test_mean_and_spread_over_seeds(tmp_path):
    counts = (20, 24, 25)
    folders = [
        made(tmp_path / f"s{seed}", {"standard": outcomes(first(36), first(count))}, seed=seed)
        for seed, count in enumerate(counts)
    ]
    found, page = shown(tmp_path, *folders)
    (group,) = found.groups
    assert (group.seeds, group.studies, group.same_images) == ([0, 1, 2], [0, 1, 2], True)
    clean, robust = group.rows
    assert (clean.over.mean, clean.over.deviation) == (0.9, 0.0)
    assert robust.values == [count / N for count in counts]
    assert robust.over == over_seeds(robust.values)
    assert robust.over.low is not None
    assert robust.over.high is not None
    assert robust.over.mean == pytest.approx(23 / 40)
    assert robust.over.deviation == pytest.approx((7 / 1600) ** 0.5)  # squares 9, 1, 4 over 2, in fortieths
    assert f"{percent(robust.over.mean)} {percent(robust.over.low)} to {percent(robust.over.high)} 6.61" in page.text
    assert "with 3 seeds" in page.text
    assert "training and test images are the same with every seed" in page.text
    assert "The recipes differ in seed alone." in page.text


def test_other_images_of_another_seed_are_said(tmp_path):
    folders = [
        made(tmp_path / str(seed), seed=seed, recipe={"heldout": 0.2, "train_images": 9}, fingerprint=f"{seed}a")
        for seed in (0, 1)
    ]
    found, page = shown(tmp_path, *folders)
    assert found.groups[0].drawn == ["train_images", "heldout"]
    assert "the seed draws training images, images held out for measuring too" in page.text


def test_another_recipe_or_other_data_are_no_repeat(tmp_path):
    folders = [
        made(tmp_path / "a"),
        made(tmp_path / "b", seed=1, recipe={"robust": {"epochs": 9}}),
        made(tmp_path / "c", seed=2, fingerprint="c8"),
    ]
    found, page = shown(tmp_path, *folders)
    assert found.groups == found.contrasts == []
    differing = {(setting.part, setting.name): setting.values for setting in found.settings}
    assert differing["recipe", "seed"] == [0, 1, 2]
    assert differing["recipe", "robust.epochs"] == [25, 9, 25]
    assert differing["recipe", "robust.adversary.eps"] == [0.5, None, 0.5]
    assert differing["data", "fingerprint"] == ["b7", "b7", "c8"]
    assert ("recipe", "standard.epochs") not in differing
    assert "not set" in page.text


def test_what_was_measured_besides_makes_no_other_recipe(tmp_path):
    """And no mean of accuracies claims more than 1."""
    besides = {"instruments": {"controls": {"on": True}}}
    found = {seed: {"standard": outcomes(first(count), first(0))} for seed, count in ((0, 40), (1, 36))}
    folders = [made(tmp_path / "a", found[0]), made(tmp_path / "b", found[1], seed=1, recipe=besides)]
    (group,) = compared(tmp_path, *folders).groups
    assert group.seeds == [0, 1]
    assert (group.rows[0].over.mean, group.rows[0].over.high) == (0.95, 1)


def test_what_sets_teach_beyond_their_controls_over_seeds(tmp_path):
    """Of the committed studies of three seeds: the first alone has a random control."""
    committed = Path(__file__).parents[1] / "results" / "gtsrb"
    found, page = shown(tmp_path, committed, committed / "seeds" / "seed-1", committed / "seeds" / "seed-2")
    (group,) = found.groups
    assert [(row.of, row.control, row.weak_epochs) for row in group.beyond] == [
        ("D_rand", "leakage", None),  # whose own labels say what is consistent
        ("D_rand_other", "leakage", 1),
        ("D_det", "leakage", 1),
    ]
    other = group.beyond[1]
    assert other.values == pytest.approx([0.2296, 0.2070, 0.2887], abs=1e-3)
    assert other.over == over_seeds(other.values, within=(-1, 1))
    assert other.score == "accuracy"  # as these studies say, which were before balanced ones were held against controls
    first = read_results(committed / "results.json").instruments.controls
    assert first
    assert other.values[0] in [row.beyond.value for row in first.rows if row.beyond and row.of == "D_rand_other"]
    assert "D rand, other leakage, weak classifier of 1 epoch 24.2 13.7 to 34.7 4.22 23.0 20.7 28.9" in page.text


def test_two_recipes_over_seeds(tmp_path):
    folders = [
        made(
            tmp_path / f"{name}-{seed}",
            {"D_R": [Outcome(None, first(count + seed))]},
            seed=seed,
            recipe={"standard": {"lr": rate}},
        )
        for name, rate, count in (("fast", 0.1, 30), ("slow", 0.01, 20))
        for seed in (0, 1)
    ]
    found, page = shown(tmp_path, *folders)
    assert [group.studies for group in found.groups] == [[0, 1], [2, 3]]
    (row,) = found.contrasts[0].rows
    assert row.difference == welch([30 / N, 31 / N], [20 / N, 21 / N])
    assert "Studies 1, 2 against 3, 4: 1 of 1 means over seeds differ by an interval that leaves out 0: D_R" in (
        page.text.replace("D R", "D_R")
    )
    contrast = found.contrasts[0].model_copy(update={"rows": [row, row]})
    (said,) = (line for line in findings(found.model_copy(update={"contrasts": [contrast]})) if "2 of 2" in line)
    assert "leaves out 0, not adjusted for their number: D_R, clean" in said  # of 20, one may by chance alone


def test_the_same_study_twice_counts_once_over_seeds(tmp_path):
    folders = [made(tmp_path / "a"), made(tmp_path / "copy"), made(tmp_path / "b", seed=1)]
    found = compared(tmp_path, *folders)
    assert [group.studies for group in found.groups] == [[0, 2]]
    assert all(row.test.difference == 0 for row in found.pairs[0].rows)


def test_many_studies_list_the_pairs_with_the_first(tmp_path):
    folders = [made(tmp_path / str(number), seed=number) for number in range(6)]
    found, page = shown(tmp_path, *folders)
    assert len(found.pairs) == 15
    assert len(listed_pairs(found)) == 5
    assert "Pairs without the first study are in compare.json, 10 of them" in page.text


def test_studies_of_one_name_are_told_apart_by_their_path(tmp_path):
    folders = [made(tmp_path / name / "digits", seed=seed) for seed, name in enumerate("ab")]
    found = compared(tmp_path, *folders)
    assert [study.label for study in found.studies] == [str(folder) for folder in folders]


# The page


def test_every_number_is_on_the_page(tmp_path):
    folders = [made(tmp_path / "out" / f"seed-{seed}", seed=seed) for seed in (0, 1, 2)]
    (folders[2] / "report.html").unlink()
    found, page = shown(tmp_path, *folders)
    shares = [share for measure in found.measures for share in measure.shares if share]
    for share in shares:
        assert f"{percent(share.low)} – {percent(share.high)}" in page.text
    tests = [row.test.difference for pair in found.pairs for row in pair.rows]
    ends = [end for share in shares for end in (share.value, share.low, share.high)]
    assert sorted(page.values) == sorted(ends + tests)
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert "seed-0/report.html" in links
    assert "seed-1/report.html" in links
    assert "seed-2/report.html" not in links
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in links if value[0] == "#"} <= set(ids)
    assert not {"script", "link", "iframe", "img"} & set(page.tags)


def hostile(tmp_path: Path) -> list[Path]:
    """Folders with the names that a file system allows."""
    names = ["<script>alert(1)<", "javascript:alert(1)", "{{ 7 * 7 }}"]
    return [made(tmp_path / "out" / name, seed=seed, hostile=True) for seed, name in enumerate(names)]


def test_hostile_names_are_inert(tmp_path):
    found, page = shown(tmp_path, *hostile(tmp_path))
    assert found.studies[1].label == "javascript:alert(1)"
    assert "script" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert "javascript%3Aalert%281%29/report.html" in links
    assert not [value for value in links if ":" in value]
    assert all(study.label in page.text for study in found.studies)


def test_a_study_without_any_accuracy_is_none(tmp_path):
    with pytest.raises(ValueError, match="at least 1 item"):
        made(tmp_path / "a", {})


def test_the_same_studies_give_the_same_bytes(tmp_path):
    folders = [made(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    shown(tmp_path, *folders)
    before = [sha256(tmp_path / "out" / name) for name in ("compare.json", "compare.html")]
    shown(tmp_path, *folders)
    assert [sha256(tmp_path / "out" / name) for name in ("compare.json", "compare.html")] == before


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    shown(folder, *hostile(folder))
    return folder / "out" / "compare.html"


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark"), (2560, "light")])
def test_the_page_in_a_browser(browser, hostile_page, width, scheme):  # noqa: F811  the fixture
    page, trouble = opened(browser, hostile_page, width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert trouble == []
    sizes = page.evaluate(
        """[...document.querySelectorAll('svg.chart')].filter(svg => svg.getBoundingClientRect().width).flatMap(svg =>
           [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect().right,
             parseFloat(getComputedStyle(text).fontSize) * svg.getScreenCTM().a]))"""
    )
    assert len(sizes) > 10
    for text, right, size in sizes:
        assert size >= 9.5, text
        assert right <= width, text
    assert faults(page) == ""
    page.context.close()


# The command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare"], "'studies' must be two or more"),
        (["compare", "a"], "'studies' must be two or more"),
        (["compare", "a", "a"], "'studies' must be different folders"),
        (["compare", "a", "b"], "There is no b/results.json"),
        (["compare", "a", "c", "--out", "a/results.json"], "is a file"),
        (["run", "digits", "--seeds", "0"], "'seeds' must be a whole number at or above 1"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made(Path("a"))
    made(Path("c"))
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert not printed.out
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "c"]


def test_the_command_compares(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made(Path("a"))
    made(Path("b"), seed=1)
    assert main(["compare", "a", "b"]) == 0
    assert capsys.readouterr().out == "runs/compare/compare.html\n"
    assert [study["folder"] for study in json.loads(Path("runs/compare/compare.json").read_text())["studies"]] == [
        "../../a",
        "../../b",
    ]


def test_seeds_are_the_recipes_and_those_after_it(tmp_path):
    recipe = read_recipe("digits", {"seed": 5})
    assert with_seeds(recipe, 1, tmp_path) == {tmp_path: recipe}
    several = with_seeds(recipe, 3, tmp_path)
    assert {folder.name: one.seed for folder, one in several.items()} == {"seed-5": 5, "seed-6": 6, "seed-7": 7}
    assert all(one.model_copy(update={"seed": 5}) == recipe for one in several.values())


PLANTED = {
    "data": "planted",
    "train_images": 60,
    "test_images": 30,
    "architecture": {"width": 4, "features": 6},
    **{name: {"epochs": 1} for name in ("standard", "robust", "constructed")},
    "matching": {"steps": 2},
    "relabelling": {"steps": 2},
    "evaluation": {"attack": {"steps": 2, "queries": 0}, "pgd": {"steps": 2}, "radii": [0.5]},
}


def test_two_seeds_by_the_command_killed_and_resumed(tmp_path, capsys):
    out = tmp_path / "planted"
    for name in ("seed-0", "seed-1"):  # it takes 15 seconds, and is there already
        (out / name).mkdir(parents=True)
        (out / name / "theory.html").write_text("theory")
    arguments = ["run", "images", "--out", str(out), "--seeds", "2", "--quiet", *flags(PLANTED)]
    process = subprocess.Popen([sys.executable, "-m", "notbugs", *arguments], start_new_session=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(out.glob("seed-1/stages/evaluate-standard.json")):
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "compare.html").exists()
    before = {file: file.stat().st_mtime_ns for file in out.glob("seed-*/stages/*.json")}
    assert len({file.parent.parent.name for file in before}) == 2

    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{out / 'compare.html'}\n"
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert all((out / name / "report.html").exists() for name in ("seed-0", "seed-1"))
    found = Comparison.model_validate_json((out / "compare.json").read_text())
    assert (found.groups[0].seeds, found.groups[0].drawn) == ([0, 1], ["train_images", "test_images"])
    assert found.pairs[0].untested == ["the test images are others"]
    assert [study.folder for study in found.studies] == ["seed-0", "seed-1"]
    for study in found.studies:
        results = Results.model_validate_json((out / study.folder / "results.json").read_text())
        for row in results.rows:
            kept = read_outcomes(out / study.folder, row.classifier)
            assert kept
            (one,) = [item for item in kept.outcomes if item.attack == row.attack]
            assert one.accuracy.share.value == row.accuracy

    stages = {file: file.stat().st_mtime_ns for file in out.glob("seed-*/stages/*.json")}
    page = sha256(out / "compare.html")
    assert main(arguments) == 0
    assert {file: file.stat().st_mtime_ns for file in out.glob("seed-*/stages/*.json")} == stages
    assert sha256(out / "compare.html") == page


def test_the_guide_runs_as_it_stands(capsys):
    text = (Path(__file__).parent.parent / "docs" / "how-to" / "compare.md").read_text(encoding="utf-8")
    names: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/how-to/compare.md", "exec"), names)  # noqa: S102
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("+6.0 points (")
    assert f"p = {2 / 2**12:.2g}" in printed[0]
    assert printed[1] == "[0.003, 0.04, 0.04]"
    assert printed[2].endswith("3 seeds")
    for freedom, factor in ((1, 12.7), (2, 4.3), (4, 2.8)):
        over = over_seeds([1.0, 0.0] + [0.5] * (freedom - 1))
        assert over.low is not None
        assert over.deviation is not None
        assert (over.mean - over.low) / over.deviation * over.n**0.5 == pytest.approx(factor, abs=0.05)
