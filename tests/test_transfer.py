"""Transfer against closed forms of linear classifiers, correlations by hand, and the command."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from torch import nn

import notbugs as nb
from notbugs.__main__ import main
from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import InputError
from notbugs.measure._transfer import Transfer
from notbugs.report import paper
from notbugs.report.section_charts import labels, scatter
from notbugs.search import search
from notbugs.search.objectives import targeted_ce, targeted_ce_alone
from notbugs.seeds import generator
from notbugs.study.folder import StudyFolder
from notbugs.study.instruments import Measured
from notbugs.study.instruments.transfer import TransferInstrument, TransferResult, TransferSettings, _ball, says
from notbugs.study.recipe import read_recipe
from notbugs.study.runner import Runner
from notbugs.study.sections import Architecture
from notbugs.threat import L2, Linf, Threat
from tests.conftest import random_images
from tests.test_study import QUIET, tiny

pytestmark = pytest.mark.whole

MIDDLE = torch.full((16,), 0.5)


def rule(normal: torch.Tensor) -> Classifier:
    """Two classes, divided by the plane through the middle of the box with this unit normal; 1 where it points."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.stack([-normal, normal]))
        network[1].bias.copy_(torch.stack([normal @ MIDDLE, -normal @ MIDDLE]))
    return Classifier(network)


def directions() -> tuple[torch.Tensor, torch.Tensor]:
    """Two orthonormal directions in the space of 1x4x4 images."""
    basis, _ = torch.linalg.qr(torch.randn(16, 2, generator=generator(0, "directions")))
    return basis[:, 0], basis[:, 1]


def images(count: int = 400) -> Images:
    """Far from the walls, with the labels of the first direction, a tenth of them wrong."""
    pixels = 0.35 + 0.3 * random_images(count, (1, 4, 4))
    labels = ((pixels.flatten(1) - MIDDLE) @ directions()[0] > 0).long()
    labels[: count // 10] = 1 - labels[: count // 10]
    return Images(pixels, labels)


@pytest.mark.parametrize("threat", [L2(0.1), Linf(0.03)])
@pytest.mark.parametrize("degrees", [0, 30, 60, 90, 150])
def test_transfer_between_linear_classifiers_is_the_cosine_of_their_angle(threat: Threat, degrees):
    """Moving by eps along the source's normal moves the other's margin by eps times the cosine, exactly."""
    one, two = directions()
    angle = math.radians(degrees)
    normals = {"source": one, "other": math.cos(angle) * one + math.sin(angle) * two}
    some = images()
    found = nb.transfer({name: rule(normal) for name, normal in normals.items()}, some, threat, sources=["source"])
    step = threat.step(one.view(1, 1, 4, 4)).flatten() * threat.eps
    sign = 2.0 * some.labels - 1
    for name, normal in normals.items():
        margin = sign * ((some.pixels.flatten(1) - MIDDLE) @ normal)
        fooled = margin < step @ normal
        pair = found.between("source", name)
        assert pair.accuracy.value == (margin > 0).double().mean()
        assert pair.untargeted.value == pair.targeted.value == pytest.approx(fooled.double().mean().item(), abs=1e-9)
        both = (margin > 0) & (sign * ((some.pixels.flatten(1) - MIDDLE) @ one) > 0)
        assert pair.untargeted_of_correct is not None
        assert pair.untargeted_of_correct == nb.measure.wilson(int(fooled[both].sum()), int(both.sum()))
        assert pair.already_target.value == pytest.approx(1 - pair.accuracy.value)


def test_a_wide_ball_fools_the_source_always_and_an_orthogonal_classifier_never():
    """Orthogonal: the attack moves nobody across; what is wrong was wrong before."""
    one, two = directions()
    found = nb.transfer({"source": rule(one), "orthogonal": rule(two)}, images(), L2(0.3))
    for name in ("source", "orthogonal"):
        own = found.between(name, name)
        assert own.untargeted.value == own.targeted.value == 1.0
    across = found.between("source", "orthogonal")
    assert across.untargeted.value == pytest.approx(1 - across.accuracy.value)
    assert across.untargeted_of_correct is not None
    assert across.untargeted_of_correct.value == 0
    assert across.targeted == across.already_target
    assert found.sources == found.classifiers == ["source", "orthogonal"]


@pytest.mark.parametrize("targets", ["next", "other"])
def test_targeted_transfer_is_the_prediction_of_the_target(targets):
    """Three orthogonal classes; a copy with its classes turned says another one, so it never says the target."""
    rows, _ = torch.linalg.qr(torch.randn(9, 3, generator=generator(0, "rows")))

    def classes(turn: int) -> Classifier:
        network = nn.Sequential(nn.Flatten(), nn.Linear(9, 3))
        with torch.no_grad():
            network[1].weight.copy_(rows.T.roll(turn, 0))
            network[1].bias.copy_(-0.5 * rows.sum(0).roll(turn))
        return Classifier(network)

    some = Images(0.4 + 0.2 * random_images(90, (1, 3, 3)), torch.arange(90) % 3)
    both = {"source": classes(0), "turned": classes(1)}
    found = nb.transfer(both, some, L2(0.6), sources=["source"], targets=targets)
    assert found.between("source", "source").targeted.value == 1.0
    assert found.between("source", "turned").targeted.value == 0.0
    attack = found.attack
    assert (attack.norm, attack.eps, attack.steps, attack.step_size) == ("l2", 0.6, 20, 1.2)
    assert (attack.decay, attack.targets, attack.seed) == ("linear", targets, 0)


def test_each_source_has_its_own_robust_accuracy_by_the_strong_attack():
    """Of a linear classifier, what the examples for transfer already show."""
    one, two = directions()
    some, threat = images(60), L2(0.1)
    found = nb.transfer({"source": rule(one), "other": rule(two)}, some, threat, sources=["source"])
    assert found.attack.name == "examples for transfer"
    assert set(found.robust) == {"source"}
    strong = found.robust["source"]
    assert strong.attack is not None
    assert (strong.attack.name, strong.attack.eps) == ("strong", 0.1)
    assert strong.share == nb.evaluate(rule(one), some, [threat])[1].share
    own = found.between("source", "source")
    assert strong.share.value == pytest.approx(1 - own.untargeted.value)
    assert sum(strong.broken.values()) == round(60 * (own.accuracy.value - strong.share.value))


def test_robust_accuracy_of_a_source_is_not_what_its_examples_for_transfer_leave(small):
    """With one step for the examples, many are left, and the strong attack goes on with these."""
    some = Images(random_images(50), torch.arange(50) % 4)
    with torch.no_grad():
        some = Images(some.pixels, small.eval()(some.pixels).argmax(1))
    found = nb.transfer({"source": small}, some, L2(0.2), steps=1)
    left = 1 - found.between("source", "source").untargeted.value
    strong = found.robust["source"]
    assert strong.share.value < left
    assert strong.broken["examples for transfer"] >= round((1 - left) * 50)
    pgd = nb.transfer({"source": small}, some, L2(0.2), steps=1, attack="pgd").robust["source"]
    assert pgd.attack is not None
    assert pgd.attack.name == "pgd"


def test_an_attack_that_others_withstand_does_not_transfer():
    """Classifiers share one direction, and each has one of its own. Only the shared one transfers, and it is kept."""
    basis, _ = torch.linalg.qr(torch.randn(16, 5, generator=generator(1, "basis")))
    shared, *own = basis.T
    source, one, two, never_seen = (rule(60 * (shared + direction) / math.sqrt(2)) for direction in own)
    labels = torch.arange(40) % 2
    sign = 2.0 * labels - 1
    some = (MIDDLE + 0.2 * sign[:, None] * shared).view(-1, 1, 4, 4)
    ball, schedule = L2(0.4), nb.search.PGDSteps(50, 0.2, decay="linear")

    def hits(objective, *goals: torch.Tensor) -> list[float]:
        found = search(objective, some, (1 - labels, *goals), ball, schedule).images
        return [float((judge(found).argmax(1) != labels).double().mean()) for judge in (source, never_seen)]

    assert hits(targeted_ce(source)) == [1.0, 1.0]
    assert hits(targeted_ce_alone(source, [one, two]), labels) == [1.0, 0.0]


def test_transfer_does_not_depend_on_the_batch_or_the_order(small):
    some = Images(random_images(50), torch.arange(50) % 4)
    other = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(72, 4)))
    whole = nb.transfer({"small": small, "other": other}, some, L2(0.5), steps=5)
    parts = nb.transfer({"other": other, "small": small}, some, L2(0.5), steps=5, batch=7)
    assert {str(pair) for pair in whole.pairs} == {str(pair) for pair in parts.pairs}
    assert Transfer.model_validate_json(whole.model_dump_json()) == whole
    with pytest.raises(InputError, match="among those that were measured"):
        whole.between("small", "nobody")


def test_mistakes_are_named(linear, small):
    some = Images(random_images(6, (1, 3, 3)), torch.arange(6) % 3)
    with pytest.raises(InputError, match="Did you mean 'source'"):
        nb.transfer({"source": linear}, some, L2(0.1), sources=["sorce"])
    with pytest.raises(InputError, match="must have 2 channels"):
        nb.transfer({"source": linear, "small": small}, some, L2(0.1))
    five = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(9, 5)))
    with pytest.raises(InputError, match="give 3 logits"):
        nb.transfer({"source": linear, "five": five}, some, L2(0.1))
    with pytest.raises(InputError, match="finite radius"):
        nb.transfer({"source": linear}, some, L2(math.inf))
    with pytest.raises(InputError, match="at least one"):
        nb.transfer({}, some, L2(0.1))


@pytest.mark.usefixtures("unchecked")
def test_a_target_is_never_the_label(linear):
    some = Images(random_images(6, (1, 3, 3)), torch.arange(6) % 3)
    with pytest.raises(InputError, match="'targets' must be one of next, other"):
        nb.transfer({"source": linear}, some, L2(0.1), targets="any")  # pyrefly: ignore


def test_correlation_by_hand():
    """x - mean = (-2, -1, 0, 1, 2), y - mean = (-3, -1, 1, 0, 3): 13 / sqrt(10 * 20)."""
    first, second = (1.0, 2.0, 3.0, 4.0, 5.0), (-2.0, 0.0, 2.0, 1.0, 4.0)
    found = nb.measure.correlation(first, second)
    assert found.pearson == pytest.approx(13 / math.sqrt(200))
    assert found.spearman == pytest.approx(0.9)  # ranks 1 2 4 3 5: 1 - 6 * 2 / 120
    z, half = math.atanh(13 / math.sqrt(200)), 1.959963984540054 / math.sqrt(2)
    assert (found.low, found.high) == pytest.approx((math.tanh(z - half), math.tanh(z + half)))
    again = nb.measure.correlation(first, second, seed=0)
    assert again == found


def test_the_papers_points_have_the_papers_correlations():
    learned = [at.learned for at in paper.FIGURES_3_AND_13]
    for kind, expected in (("untargeted", 0.980), ("targeted", 0.818)):
        found = nb.measure.correlation(learned, [getattr(at, kind) for at in paper.FIGURES_3_AND_13])
        assert found.pearson == pytest.approx(expected, abs=2e-3)
        assert found.spearman == pytest.approx(1.0)
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.pearson < found.high


def test_the_bootstrap_agrees_with_scipys_where_there_are_many_points():
    draw = generator(0, "points")
    first = torch.randn(60, generator=draw)
    second = first + torch.randn(60, generator=draw)
    found = nb.measure.correlation(first.tolist(), second.tolist())
    theirs = stats.bootstrap(
        (first.numpy(), second.numpy()),
        lambda x, y: stats.spearmanr(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        random_state=0,
    ).confidence_interval
    assert (found.spearman_low, found.spearman_high) == pytest.approx((theirs.low, theirs.high), abs=0.03)
    assert found.spearman == pytest.approx(stats.spearmanr(first.numpy(), second.numpy()).statistic)
    assert (found.bootstrap_low, found.bootstrap_high) == pytest.approx((found.low, found.high), abs=0.1)


def test_what_few_points_do_not_have():
    three = nb.measure.correlation((1, 2, 3), (1, 3, 2))
    assert three.pearson == pytest.approx(0.5)
    assert three.low is None
    assert "no interval" in str(three)
    for line in ((1, 2, 3, 4), (4, 3, 2, 1), (0.1, 0.2, 0.3, 0.4)):  # four points of few images may be on one
        found = nb.measure.correlation((1, 2, 3, 4), line)
        assert (found.low, found.high) == (None, None)
        assert "no interval" in str(found)
        assert "Fisher" not in says(found)
    flat = nb.measure.correlation((1, 2, 3, 4), (0.1, 0.1, 0.1, 0.1))
    assert flat.pearson is None
    assert "does not vary" in str(flat)
    for first, second in (((1, 2), (1, 2)), ((1, 2, 3), (1, 2)), ((1, 2, math.nan), (1, 2, 3))):
        with pytest.raises(InputError):
            nb.measure.correlation(first, second)


def test_the_numbers_of_a_figure_keep_off_its_marks():
    marks = [(30.0, 90.0), (31.0, 91.0), (32.0, 87.0), (29.5, 84.0), (0.0, 0.0), (40.0, 100.0)]
    rows = [{"name": str(number), "x": x, "y": y} for number, (x, y) in enumerate(marks, 1)]
    for across, up in ((9.0, 3.0), (4.5, 3.0)):
        found = labels(rows, across, up)
        assert [label["name"] for label in found] == ["1", "2", "3", "4", "5", "6"]
        places = [(label["x"] * across, label["y"] * up) for label in found]
        for at, place in enumerate(places):
            others = [(x * across, y * up) for x, y in marks] + places[:at]
            assert min(math.dist(place, other) for other in others) > 8
            assert min(place) > 0


def test_the_radius_of_another_norm_is_not_the_relabellings():
    def ball(**settings) -> Threat:
        recipe = read_recipe("digits", {"instruments": {"transfer": {"on": True} | settings}})
        return _ball(SimpleNamespace(recipe=recipe))  # pyrefly: ignore

    assert ball() == L2(1.5)
    assert ball(norm="linf") == Linf(8 / 255)
    assert ball(norm="linf", eps=0.1) == Linf(0.1)


def test_architectures_are_written_as_a_name_and_options():
    parsed = Architecture.parse("cnn width=8 stride=2")
    assert parsed == Architecture(name="cnn", options={"width": 8, "stride": 2})
    assert str(parsed) == "cnn width=8 stride=2"
    assert str(Architecture(name="cnn", width=4, features=6)) == "cnn width=4 features=6"
    for wrong, message in (
        (("cnn width",), "be a name and options"),
        (("cnn depth=8",), "depth"),
        (("resnet19",), "Did you mean"),
        (("cnn", "cnn"), "each of them once"),
    ):
        with pytest.raises(ValueError, match=message):
            TransferSettings(architectures=wrong)


DATA = ("--data", "digits", "--train-images", "200", "--test-images", "80", "--precision", "fp32", "--quiet")
SHORT = ("--epochs", "3", "--batch", "32")
THREE = ("--architectures", "cnn width=2 features=4", "cnn width=4 features=8", "cnn width=8 features=8")
QUICK = ("--standard.epochs", "3", "--constructed.epochs", "3", "--relabelling.eps", "1.5", "--images", "60")


class CountingTrain:
    """The training of the library, counted."""

    calls = 0

    def __call__(self, *arguments, **named) -> Classifier:
        self.calls += 1
        return nb.train(*arguments, **named)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("source", "other")):
        network = ("--arch", "cnn", "--arch.width", "8", "--seed", str(seed))
        assert main(["train", "--out", str(folder / f"{name}.safetensors"), *DATA, *SHORT, *network]) == 0
    return folder / "source.safetensors", folder / "other.safetensors"


def test_the_whole_experiment_from_a_terminal(models, tmp_path, capsys, monkeypatch):
    source, other = map(str, models)
    command = ["transfer", source, other, "--out", str(tmp_path), *DATA, *THREE, *QUICK]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'transfer.html'}\n"
    found = TransferResult.model_validate_json((tmp_path / "transfer.json").read_text())
    assert [at.architecture for at in found.learners] == list(THREE[1:])
    assert found.matrix.sources == found.matrix.classifiers == ["source", "other", *THREE[1:]]
    assert found.matrix.attack.eps == 1.5
    for at in found.learners:
        pair = found.matrix.between("source", at.classifier)
        assert (at.untargeted, at.targeted) == (pair.untargeted, pair.targeted)
        assert (at.learned.n, at.untargeted.n) == (80, 60)
    learned, fooled = ([getattr(at, name).value for at in found.learners] for name in ("learned", "untargeted"))
    assert found.untargeted == nb.measure.correlation(learned, fooled)
    page = (tmp_path / "transfer.html").read_text()
    assert len(re.findall("<svg", page)) == 4  # two figures, each for wide and for narrow pages
    assert "cnn width=4 features=8" in page

    # The same command trains and builds nothing again, and finds the same; one more architecture is two trainings.
    count = CountingTrain()
    monkeypatch.setattr("notbugs.study.runner.train", count)
    assert main(command) == 0
    assert count.calls == 0
    assert TransferResult.model_validate_json((tmp_path / "transfer.json").read_text()) == found
    assert main([*command, "--architectures", "cnn width=3 features=3", "--eps", "1.0"]) == 0
    assert count.calls == 2
    capsys.readouterr()
    assert main(["transfer", other, "--out", str(tmp_path), *DATA, *THREE, *QUICK]) == 2
    assert "built from another request" in capsys.readouterr().err


def test_the_matrix_alone_trains_nothing(models, tmp_path, capsys):
    arguments = [
        "--out",
        str(tmp_path),
        "--images",
        "60",
        "--eps",
        "0.5",
        *[part for part in DATA if part != "--quiet"],
    ]
    assert main(["transfer", *map(str, models), *arguments]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 7
    assert printed[0].startswith("source -> source: untargeted ")
    assert printed[4].startswith("source itself: l2 0.5: ")
    assert printed[-1] == str(tmp_path / "transfer.html")
    found = json.loads((tmp_path / "transfer.json").read_text())
    assert (found["learners"], found["untargeted"]) == ([], None)
    assert scatter(TransferResult.model_validate(found), "untargeted") is None
    assert not (tmp_path / "classifiers").exists()
    assert "trained twice" not in (tmp_path / "transfer.html").read_text()
    small = ["--architectures", "cnn stride=4", "--out", str(tmp_path / "small"), *DATA]
    assert main(["transfer", str(models[0]), *small]) == 2
    assert "'size' must be at least 16 pixels" in capsys.readouterr().err
    assert not (tmp_path / "small" / "sets").exists()


def test_a_study_measures_it_once_and_keeps_it(tmp_path, monkeypatch):
    """The study's own architecture is a point too: its independent classifier, and that trained on D_det."""
    recipe = tiny(instruments={"transfer": {"on": True, "architectures": THREE[1:], "images": 30, "steps": 3}})
    data = recipe.read()
    folder = StudyFolder(tmp_path, QUIET, stages=0)
    runner = Runner(recipe, data, folder, torch.device("cpu"))
    for name in ("standard", "independent", "robust"):
        runner.train(name, data.train)
    source = runner.classifier("standard")
    built = runner.build("D_det", lambda path, progress: nb.relabel(source, data, path, targets="next"))
    runner.train("D_det", built.images)
    found = TransferInstrument().run(runner)
    assert [at.classifier for at in found.learners] == ["independent", *THREE[1:]]
    assert found.learners[0].architecture == "cnn width=4 features=6"
    assert found.learners[0].learned == nb.evaluate(runner.classifier("D_det"), data.test)[0].share
    assert found.matrix.sources == ["standard", "robust", "independent", *THREE[1:]]
    assert found.matrix.attack.eps == recipe.relabelling.eps
    assert {pair.untargeted.n for pair in found.matrix.pairs} == {30}
    assert Measured(transfer=found).model_dump()["transfer"]["source"] == "standard"

    monkeypatch.setattr("notbugs.study.instruments.transfer.transfer", lambda *_, **__: pytest.fail("measured again"))
    assert TransferInstrument().run(runner) == found
    for kind in ("untargeted", "targeted"):
        drawn = scatter(found, kind)
        assert drawn is not None
        assert drawn.count('aria-label="Scatter of') == 1


def test_the_studys_own_architecture_is_trained_on_d_det_where_that_of_its_classifier_is_another(tmp_path):
    other = {"D_det": {"name": "cnn", "width": 2, "features": 4}}
    recipe = tiny(architecture_on=other, instruments={"transfer": {"on": True, "architectures": [], "images": 10}})
    data = recipe.read()
    runner = Runner(recipe, data, StudyFolder(tmp_path, QUIET, stages=0), torch.device("cpu"))
    for name in ("standard", "independent", "robust"):
        runner.train(name, data.train)
    source = runner.classifier("standard")
    built = runner.build("D_det", lambda path, progress: nb.relabel(source, data, path, targets="next"))
    runner.train("D_det", built.images)
    (own,) = TransferInstrument().run(runner).learners
    assert own.architecture == "cnn width=4 features=6"
    (trained,) = tmp_path.glob("classifiers/cnn-*-D_det.safetensors")
    theirs = nb.load_classifier(trained)
    assert theirs.features(data.test.batch(slice(1))[0]).shape == (1, 6)
    assert own.learned == nb.evaluate(theirs, data.test)[0].share
    assert own.learned != nb.evaluate(runner.classifier("D_det"), data.test)[0].share


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.safetensors"], "There is no file nowhere.safetensors"),
        (["a/x.safetensors", "b/x.safetensors"], "'models' must have different names"),
        (["x.safetensors", "--architectures", "cnn depth=3"], "depth"),
        (["x.safetensors", "--architectures", "resnet19"], "Did you mean 'resnet"),
        (["x.safetensors", "--images", "0"], "images"),
        (["x.safetensors", "--out", __file__], "must be a folder"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["transfer", *arguments, *DATA]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--eps", "1", "--relabelling.eps", "9"], "'eps' must be at most 8 in l2"),
        (["--eps", "9"], "'eps' must be at most 8 in l2"),
        (["--constructed.shift", "9"], "'shift' must be below the 8 pixels"),
    ],
)
def test_what_a_later_stage_would_refuse_is_refused_before_any_training(options, rule, models, tmp_path, capsys):
    given = ["--architectures", "cnn width=2 features=4", "--out", str(tmp_path / "out"), *DATA, *options]
    assert main(["transfer", str(models[0]), *given]) == 2
    assert re.search(rule, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_the_guide_runs(capsys):
    """docs/how-to/transfer.md as it stands, from the top; and what it says of the paper's points."""
    text = (Path(__file__).parents[1] / "docs" / "how-to" / "transfer.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/how-to/transfer.md", "exec"), names)  # noqa: S102
    printed = capsys.readouterr().out.splitlines()
    assert printed[4].startswith("l2 1: ")
    assert "r = 0.98 (0.71 to 1.00)" in printed[5]
    shared, alone = (json.loads(line.split(" ", 1)[1]) for line in printed[6:])
    assert min(shared[0], alone[0]) > 0.8
    assert alone[1] < shared[1] / 2
    points = [(at.learned, at.targeted) for at in paper.FIGURES_3_AND_13]
    assert "r = 0.82 (-0.23 to 0.99)" in str(nb.measure.correlation(*zip(*points, strict=True)))
