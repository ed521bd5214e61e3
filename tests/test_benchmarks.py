"""The benchmark: what it compares with, what it counts, how it judges, and that it runs where no peer is installed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import notbugs as nb
from benchmarks import controls, jpeg, nets, overhead, page, scaling
from benchmarks.search import cases, measuring, quality
from benchmarks.search.__main__ import main
from benchmarks.search.counting import PassCounter
from benchmarks.search.libraries import floor, madry
from benchmarks.search.libraries import notbugs as ours
from benchmarks.search.loops import Normalised, Setting
from benchmarks.search.tasks import TASKS, Task, quick
from notbugs.errors import InputError
from notbugs.measure import Difference
from notbugs.search import search
from notbugs.search.objectives import away_from
from notbugs.seeds import generator
from notbugs.study import Results
from notbugs.study.instruments.set_radius import SetRadiusResult, SetRadiusRow
from notbugs.study.results import Measured
from notbugs.threat import L2
from tests import fakes

pytestmark = pytest.mark.whole

STEPS = 6


def a_setting(kind: str, norm: str = "l2", steps: int = STEPS, batch: int = 5) -> Setting:
    network = nets.build("cnn", 3, 4, width=4, features=8)
    model = Normalised(network, [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]).eval()
    task = Task("test", kind, steps, norm, 0.5 if norm == "l2" else 0.03, 0.15 if norm == "l2" else 0.01)
    return Setting(task, model, batch, 4, (3, 12, 12), torch.device("cpu"))


def inputs(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    draw = generator(0, "benchmark")
    return torch.rand(count, 3, 12, 12, generator=draw), torch.randint(4, (count,), generator=draw)


def a_row(library: str, **values: object) -> dict:
    row = {"library": library, "images": 100, "images_per_second": 10.0, "seconds": {"median": 10.0}, "backwards": 20.0}
    return row | {"loss": 1.0, "success": 1.0, "norm": 0.5, "valid": True, "comparable": True} | values


def a_case(images: int = 100) -> cases.Case:
    return cases.Case(Path("none"), "cnn", 10, [0.5], [0.5], images, 1.0)


def test_the_cnn_is_the_one_of_notbugs():
    ours, theirs = nb.models.build("cnn", channels=3, classes=10), nets.build("cnn", 3, 10)
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(4, 3, 16, 16, generator=generator(0))
    torch.testing.assert_close(theirs.eval()(images), ours.eval()(images))


@pytest.mark.parametrize(("name", "parameters"), [("resnet9", 6_573_130), ("resnet18", 11_173_962)])
def test_the_resnets_have_their_published_size(name, parameters):
    """ResNet-18 in CIFAR form: 11,173,962; ResNet-9 of DAWNBench fame: 6,573,130 with batch norm's scales."""
    network = nets.build(name, 3, 10)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_transcription_takes_our_path(norm):
    """The same steps from the same start, the last iterate of both: they differ in rounding alone."""
    setting, (images, labels) = a_setting("pgd", norm), inputs()
    classifier, task = ours.classifier(setting, "fp32"), setting.task
    step = madry.step_class(setting)(images, task.eps, task.step_size)
    loss = madry.classification(setting.model)
    theirs = madry.attacker(loss, step, labels, STEPS, 1, use_best=False)
    schedule = nb.search.PGDSteps(STEPS, task.step_size)
    found = search(away_from(classifier), images, (labels,), ours.threat(task), schedule, keep="last")
    torch.testing.assert_close(found.images, theirs, atol=2e-5, rtol=0)


def test_the_transcription_keeps_the_same_best_iterate_towards_a_target():
    setting, (images, targets) = a_setting("targeted"), inputs()
    found = ours.pgd(setting, "fp32")(images, targets)
    torch.testing.assert_close(found, madry.pgd(setting)(images, targets), atol=2e-5, rtol=0)


def test_the_transcription_of_inversion_matches_features():
    setting, (images, _) = a_setting("matching", steps=40), inputs()
    guides = images.flip(0)
    before = quality.matching_losses(setting.model, images, guides)
    after = quality.matching_losses(setting.model, madry.matching(setting)(images, guides), guides)
    moved = torch.tensor([True, True, False, True, True])  # the one in the middle is its own guide
    assert (after[moved] < 0.7 * before[moved]).all()


@pytest.mark.parametrize(
    ("attack", "kind", "forwards", "backwards"),
    [
        (madry.pgd, "pgd", STEPS + 2, STEPS),  # the last iterate is scored, the result is run once more
        (madry.matching, "matching", 2 * STEPS + 2, STEPS),  # the guide, twice every step, the result
        (floor.ATTACKS["pgd"]["passes"], "pgd", STEPS, STEPS),
        (madry.training, "training", STEPS + 2, STEPS + 1),  # and the step on the weights
    ],
)
def test_passes_are_counted(attack, kind, forwards, backwards):
    setting, (images, labels) = a_setting(kind, batch=3), inputs(6)
    run = attack(setting)
    with PassCounter(3) as counter:
        run(images, images if kind == "matching" else labels)
    assert (counter.forwards, counter.backwards) == (6 * forwards, 6 * backwards)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_ours_claims_is_what_is_counted(precision):
    setting, (images, labels) = a_setting("pgd"), inputs()
    with PassCounter(3) as counter:
        found = nb.pgd(ours.classifier(setting, precision), images, labels, L2(0.5), nb.search.PGDSteps(STEPS))
    assert (counter.forwards, counter.backwards) == (5 * found.forwards, 5 * found.backwards)


def test_ratios():
    rows = [
        a_row("notbugs", images_per_second=30.0, seconds={"median": 10 / 3}),
        a_row("foolbox"),
        a_row("ART", images_per_second=40.0, comparable=False),
        a_row("floor", images_per_second=40.0, seconds={"median": 2.5}, comparable=None),
        a_row("floor fp32", backwards=10.0, comparable=None),
    ]
    measuring.add_ratios(rows)
    assert rows[0]["ratio_to_best_peer"] == pytest.approx(3.0)  # ART is faster, and not comparable
    assert rows[0]["ratio_to_floor"] == pytest.approx(4 / 3)
    assert rows[1]["ratio_to_floor"] == pytest.approx(0.5)  # as long for twice the passes
    assert "ratio_to_floor" not in rows[3]


def test_worse_rows_are_not_comparable():
    rows = [a_row("notbugs"), a_row("foolbox", success=0.9), a_row("ART", valid=False), a_row("floor", loss=None)]
    quality.mark_comparable(a_case(), TASKS[0], rows, None)
    assert [row["comparable"] for row in rows] == [True, False, False, True]  # the floor is left alone
    least = next(task for task in TASKS if task.kind == "minimum norm")
    rows = [
        a_row("notbugs"),
        a_row("adv-lib", norm=0.52),
        a_row("foolbox", norm=0.6),
        a_row("ART", norm=0.1, success=0.5),
    ]
    quality.mark_comparable(a_case(), least, rows, None)
    assert [row["comparable"] for row in rows] == [True, True, False, False]
    matching = next(task for task in TASKS if task.kind == "matching")
    rows = [a_row("notbugs", loss=0.0101), a_row("ART", loss=0.011)]
    quality.mark_comparable(a_case(), matching, rows, 0.01)
    assert [row["comparable"] for row in rows] == [True, False]


def test_quick_is_shorter_and_otherwise_the_same():
    assert [quick(task).steps for task in TASKS] == [20, 20, 30, 30, 30, 50, 7]
    assert quick(TASKS[0]) == TASKS[0]


@pytest.fixture
def brief(tmp_path, monkeypatch) -> Path:
    """A cache of its own, and next to no training."""
    monkeypatch.setattr(cases, "CACHE", tmp_path / "cache")
    monkeypatch.setitem(cases.TRAINING, "cnn", (256, 1))
    monkeypatch.setattr(cases, "SHAPE", (3, 16, 16))
    monkeypatch.setattr("benchmarks.search.__main__.quick", lambda task: replace(task, steps=min(task.steps, 12)))
    return tmp_path


@pytest.mark.slow
def test_it_runs_without_peers(brief):
    arguments = [
        "--quick", "--models", "cnn", "--threads", "1", "--device", "cpu", "--peers", str(brief), "--json",
        str(brief / "results.json"), "--libraries", "notbugs,MadryLab,foolbox,floor", "--tasks",
        "pgd-20 l2;minimum norm;feature matching",
    ]  # fmt: skip
    main(arguments)
    results = json.loads((brief / "results.json").read_text())
    rows = {(row["task"], row["library"]): row for row in reversed(results["rows"])}  # the first of a library's
    assert "benchmarks.peers" in rows["pgd-20 l2", "foolbox"]["status"]
    mine, theirs = rows["pgd-20 l2", "notbugs"], rows["pgd-20 l2", "MadryLab"]
    assert mine["comparable"]
    assert theirs["comparable"]
    assert (mine["forwards"], theirs["forwards"], mine["backwards"], theirs["backwards"]) == (13, 14, 12, 12)
    assert mine["valid"]
    assert mine["images_per_second"] > 0
    assert mine["ratio_to_floor"] > 0
    assert (rows["minimum norm", "notbugs"]["status"] == "not there") is not hasattr(nb, "minimum_norm")
    matched, given = rows["feature matching", "notbugs"], rows["feature matching", "MadryLab"]
    assert matched["steps"] <= given["steps"] == 12
    assert math.isfinite(matched["loss"])
    text = page.page([results])
    assert "### pgd-20 l2, cnn" in text
    assert "| pgd-20 l2: to the floor, at most | cnn | 1.1 |" in text
    assert text.count("\n| notbugs") == 5


def test_scaling_runs_and_draws(tmp_path):
    found, picture = tmp_path / "scaling.json", tmp_path / "scaling.svg"
    threads = ["--threads", "1", "--device", "cpu"]
    scaling.main(["--quick", "--repeats", "1", "--json", str(found), "--picture", str(picture), *threads])
    result = json.loads(found.read_text())
    assert len(result["sweeps"]) == 16
    assert all(row["seconds"] > 0 for row in result["sweeps"])
    assert "images in a batch" in picture.read_text()
    assert "](../images/scaling.svg)" in page.page([result])


def through_jpeg(folder: Path, quality: int | None, seed: int, accuracy: float, **changes: object) -> str:
    """A study made by hand, whose standard classifier has this accuracy on images as they are, or through JPEG."""
    made = fakes.results()
    settings = made.study.recipe | {"seed": seed, "jpeg": quality and {"quality": quality, "chroma": "4:4:4"}} | changes
    fingerprint = f"{quality or 0:064d}"
    about = made.study.model_copy(
        update={"recipe": settings, "seeds": [seed], "data": made.study.data | {"fingerprint": fingerprint}}
    )
    results = Results(study=about, rows=[fakes.row(accuracy=accuracy)], sets=made.sets)
    folder.mkdir()
    (folder / "results.json").write_text(results.model_dump_json(by_alias=True), encoding="utf-8")
    return str(folder)


def test_jpeg_compares_studies(tmp_path, capsys):
    found, picture = tmp_path / "jpeg.json", tmp_path / "jpeg.svg"
    plain = [through_jpeg(tmp_path / f"plain-{seed}", None, seed, value) for seed, value in ((0, 0.9), (1, 0.8))]
    lossy = through_jpeg(tmp_path / "lossy", 75, 0, 0.7)
    jpeg.main([*plain, lossy, "--json", str(found), "--picture", str(picture)])
    mean = nb.measure.over_seeds([0.9, 0.8])
    assert f"| standard, clean | 85.0 ({100 * max(0, mean.low):.1f} to 100.0) | 70.0 (" in capsys.readouterr().out
    first, *_ = rows = json.loads(found.read_text())["rows"]
    assert (first["of"], first["value"], first["seeds"]) == ("standard", pytest.approx(0.85), [0, 1])
    assert [row["value"] for row in rows if row["of"] == "D_rand"] == [pytest.approx(0.983, abs=1e-3)] * 2
    assert "JPEG quality" in picture.read_text()
    other = through_jpeg(tmp_path / "other", 50, 0, 0.7, pair=[0, 2])
    alone = "differ in 'jpeg', 'instruments', 'judge' and 'seed' alone"
    with pytest.raises(InputError, match=rf"{alone}; 'pair' is \[0, 1\] in the first, and \[0, 2"):
        jpeg.main([lossy, other])
    more = through_jpeg(tmp_path / "more", 50, 0, 0.7, judge=True, instruments={"controls": {"on": True}})
    jpeg.main([lossy, more])  # measuring more changes no accuracy
    with pytest.raises(InputError, match="Two of the studies have the same images and the same seed"):
        jpeg.main([lossy, lossy])


def beyond_controls(folder: Path, width: int, beyond: list[float], **changes: object) -> str:
    """A study made by hand, whose D_rand teaches so much more than its control, once for each repetition."""
    made = fakes.results()
    settings = made.study.recipe | {"architecture": {"name": "cnn", "width": width}} | changes
    clean, control = fakes.proportion(0.5, 400), [fakes.proportion(0.5 - more, 400) for more in beyond]
    rows = [
        SetRadiusRow(of="D_rand", eps=0.5, repeat=repeat, n=100, success=clean, clean=clean, leakage=one,
                     beyond=Difference.of(clean, one))
        for repeat, one in enumerate(control, 1)
    ]  # fmt: skip
    measured = Measured(set_radius=SetRadiusResult(norm="l2", seed=0, test_set="test", rows=rows) if rows else None)
    results = Results(
        study=made.study.model_copy(update={"recipe": settings}), rows=made.rows, sets=[], instruments=measured
    )
    folder.mkdir()
    (folder / "results.json").write_text(results.model_dump_json(by_alias=True), encoding="utf-8")
    return str(folder)


def test_controls_compares_networks(tmp_path, capsys):
    found, picture = tmp_path / "controls.json", tmp_path / "controls.svg"
    narrow, wide = beyond_controls(tmp_path / "8", 8, [0.1, 0.2]), beyond_controls(tmp_path / "16", 16, [-0.05])
    controls.main([narrow, wide, "--json", str(found), "--picture", str(picture)])
    mean, single = nb.measure.over_seeds([0.1, 0.2]), Difference.of(*map(fakes.proportion, (0.5, 0.55), (400, 400)))
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| D_rand | cnn of width 8 | 0.5 | 2 | 50.0 (45.1 to 54.9) | 35.0 (0.0 to 98.5) | 15.0 "
        f"({100 * mean.low:.1f} to {100 * mean.high:.1f}) |",
        f"| D_rand | cnn of width 16 | 0.5 | 1 | 50.0 (45.1 to 54.9) | 55.0 (50.1 to 59.8) | -5.0 "
        f"({100 * single.low:.1f} to {100 * single.high:.1f}) |",
    ]
    assert [row["beyond"]["value"] for row in json.loads(found.read_text())["rows"]] == pytest.approx([0.15, -0.05])
    assert "points beyond the control" in picture.read_text()
    other = beyond_controls(tmp_path / "other", 32, [0.1], pair=[0, 2])
    with pytest.raises(InputError, match=r"differ in 'architecture', 'instruments' and 'seed' alone; 'pair' is \[0, 1"):
        controls.main([narrow, other])
    with pytest.raises(InputError, match="Two of the studies have the same network and the same seed"):
        controls.main([narrow, narrow])
    with pytest.raises(InputError, match="Run it again with --instruments.set-radius.on"):
        controls.main([beyond_controls(tmp_path / "none", 8, [])])
    uneven = nb.study.read_results(narrow)
    own, control = fakes.proportion(0.4, 400), fakes.proportion(0.2, 400)
    beyond = Difference.of(own, control, score="balanced accuracy")
    row = uneven.instruments.set_radius.rows[0].model_copy(
        update={"balanced": own, "leakage_balanced": control, "beyond": beyond}
    )
    assert controls._held(row) == {"clean": own.model_dump(mode="json"), "leakage": control.model_dump(mode="json")}


def test_overhead_is_the_ratio_of_medians_and_the_page_has_it(monkeypatch, tmp_path):
    ticks = iter([0, 9, 0, 3, 10, 12, 0, 5, 10, 12, 0, 4, 10, 14])  # the first pair is not counted
    monkeypatch.setattr(overhead.time, "perf_counter", lambda: next(ticks))
    row = overhead.measured(lambda: None, lambda: None, images=60, repeats=3)
    assert row["seconds"] == {"notbugs": [3, 5, 4], "bare": [2, 2, 4]}
    assert (row["notbugs"], row["bare"], row["ratio"]) == (15, 30, 2)
    monkeypatch.undo()
    left, few = tmp_path / "overhead.json", ["--width", "2", "--images", "20", "--size", "8", "--repeats", "1"]
    monkeypatch.setattr("sys.argv", ["overhead", *few, "--json", str(left)])
    overhead.main()
    monkeypatch.setattr(overhead, "LEFT", left)
    text = page.page([])
    rows = json.loads(left.read_text())["rows"]
    assert [row["steps"] for row in rows] == [1, 1, 10, 30]
    assert all(f"| {row['what']} | {row['notbugs']:,.0f} |" in text for row in rows)
