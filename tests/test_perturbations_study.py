"""The instruments `spatial` and `corruptions` in a study, and their page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import notbugs as nb
from notbugs import study
from notbugs.__main__ import main
from notbugs.errors import InputError
from notbugs.study.sets import EVERY
from tests.test_study import QUIET, read, tiny

pytestmark = pytest.mark.whole

ASKED = {
    "spatial": {"on": True, "images": 10, "shifts": 3, "angles": 3, "tries": 2, "steps": 2, "restarts": 1, "train": 2},
    "corruptions": {"on": True, "images": 12, "severities": [5], "cutoffs": [1, 2.5]},
}


def test_a_study_has_them(tmp_path, monkeypatch):
    recipe = tiny(instruments=ASKED, constructed={"epochs": 1}, matching={"steps": 2}, relabelling={"steps": 2})
    study.run(recipe, tmp_path / "study", QUIET)
    found = read(tmp_path / "study").instruments
    assert found.spatial.n == 10
    assert [row.classifier for row in found.spatial.rows] == [*EVERY, "spatial"]
    assert found.spatial.training.tries == 2
    for row in found.spatial.rows:
        measured = row.accuracy
        assert (measured.degrees, measured.pixels, measured.worst.n, measured.seed) == (30, 3, 10, recipe.seed)
        assert measured.worst.value <= measured.grid.value <= measured.clean.value
    assert found.corruptions.n == 12
    for row in found.corruptions.rows:
        assert len(row.corruptions) == 9
        assert [(item.passes, item.cutoff) for item in row.filters] == [
            *[("low", 1), ("low", 2.5)],
            *[("high", 1), ("high", 2.5)],
        ]
        assert row.clean.n == row.filters[0].share.n == 12
    assert "spatial" in read(tmp_path / "study").study.classifiers

    monkeypatch.setattr("notbugs.study.instruments.spatial.spatial_accuracy", None)  # what is done is not done again
    monkeypatch.setattr("notbugs.study.instruments.corruptions.corruption_accuracy", None)
    study.run(recipe, tmp_path / "study", QUIET)
    assert read(tmp_path / "study").instruments == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"corruptions": {"names": ["haze"]}},
        {"corruptions": {"severities": [6]}},
        {"corruptions": {"cutoffs": [-1]}},
        {"spatial": {"degrees": 181}},
        {"spatial": {"tries": 0}},
    ],
)
def test_a_wrong_setting_is_refused(wrong):
    with pytest.raises(InputError, match="recipe digits: The 'instruments"):
        tiny(instruments=wrong)


def test_on_the_command_line(tmp_path, capsys):
    model = str(tmp_path / "model.safetensors")
    data = ("--data", "digits", "--train-images", "100", "--test-images", "20", "--precision", "fp32", "--quiet")
    network = ("--arch.width", "4", "--arch.features", "8", "--epochs", "1")
    assert main(["train", "--out", model, *data, *network, "--spatial.degrees", "20", "--spatial.tries", "2"]) == 0
    capsys.readouterr()
    assert main(["evaluate", model, *data, "--radii", "--spatial.degrees", "20", "--spatial.pixels", "1"]) == 0
    clean, spatial = capsys.readouterr().out.splitlines()
    assert clean.startswith("clean: ")
    images = nb.load("digits").take(100, 20, 0).test
    assert spatial == str(nb.measure.spatial_accuracy(nb.load_classifier(Path(model)), images, nb.Spatial(20, 1)))
    assert main(["evaluate", model, *data, "--spatial.degrees", "200"]) == 2
    assert "degrees" in capsys.readouterr().err


def test_the_pages_blocks_run(capsys):
    """As they stand there, but with less training."""
    text = (Path(__file__).parents[1] / "docs" / "how-to" / "perturbations.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 3
    code = "\n".join(blocks).replace("epochs=4", "epochs=1")
    exec(compile(code, "perturbations.md", "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out
    assert len(re.findall(r"^rotations 30 degrees, shifts 1 pixels: \d", printed, re.MULTILINE)) == 2
