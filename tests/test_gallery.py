"""The gallery: frames of a search, their pictures, and the drawing of the idea."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from notbugs.errors import InputError
from notbugs.report import write_report
from notbugs.report.accuracies import study_accuracies
from notbugs.report.gallery import differences, idea, play
from notbugs.report.pictures import magnified, read_gallery, sheet
from notbugs.search import PGDSteps, fast_matching, frames, search
from notbugs.search.objectives import away_from, matching
from notbugs.threat import L2
from tests import fakes
from tests.conftest import random_images

pytestmark = pytest.mark.whole

DIGITS = list("0123456789")
NEW = ("steps", "moved", "scores", "success")


def opened(uri):
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(BytesIO(b64decode(data))))


def old_gallery(**images):
    """As galleries were before they had frames."""
    return {name: array for name, array in fakes.gallery(**images).items() if name.partition(".")[2] not in NEW}


# Frames of a search


@pytest.mark.parametrize("ball", [L2(0.5), L2(float("inf"))], ids=str)
def test_a_frame_is_what_a_search_that_ends_there_finds(small, ball):
    images, labels = random_images(3), torch.tensor([0, 1, 2])
    schedule = PGDSteps(8, 0.2, momentum=0.5)
    with small.evaluating():
        found, scores = frames(away_from(small), images, (labels,), ball, schedule, [0, 1, 5, 8])
        for frame, steps in enumerate((1, 5, 8), 1):
            alone = search(away_from(small), images, (labels,), ball, PGDSteps(steps, 0.2, momentum=0.5))
            assert torch.equal(found[:, frame], alone.images)
            assert torch.equal(scores[:, frame], alone.score)
    assert torch.equal(found[:, 0], images)


def test_frames_of_feature_matching_end_where_the_search_does(small):
    start, target = random_images(3), random_images(3, seed=1)
    schedule = fast_matching(start.shape[1:], 12)
    with small.evaluating():
        goals = (small.features(target).detach(),)
        found, scores = frames(matching(small), start, goals, L2(float("inf")), schedule, [0, 4, 12])
        alone = search(matching(small), start, goals, L2(float("inf")), schedule)
    assert torch.equal(found[:, -1], alone.images)
    assert bool((scores.diff(dim=1) <= 0).all())


# Sheets


def test_a_sheet_has_every_image_in_its_place():
    images = np.random.default_rng(0).random((4, 3, 3, 5, 6))
    read = opened(sheet(images))
    assert read.shape == (4 * 5, 3 * 6, 3)
    for row in range(4):
        for column in range(3):
            cut = read[5 * row : 5 * row + 5, 6 * column : 6 * column + 6]
            assert np.array_equal(cut, np.rint(255 * images[row, column]).astype(np.uint8).transpose(1, 2, 0))


def test_differences_have_known_pixels():
    moved = np.zeros((3, 2, 1, 1, 3))
    moved[0, :, 0, 0] = [[0.01, 0, -0.06], [0.03, 0, -0.04]]
    moved[2, 1, 0, 0] = [0.3, -0.7, 0]
    shown, gains = differences(moved)
    assert gains == [12.0, 1.0, 0.71]  # 0.5 / 0.04 and 0.5 / 0.7, rounded down; nothing to amplify in the second
    assert shown[0, :, 0, 0] == pytest.approx(np.array([[0.62, 0.5, 0], [0.86, 0.5, 0.02]]))
    assert (shown[1] == 0.5).all()
    assert shown[2, 1, 0, 0] == pytest.approx([0.713, 0.003, 0.5])


@pytest.mark.parametrize(("width", "side"), [(8, 224), (32, 224), (28, 224), (224, 224), (500, 224), (150, 150)])
def test_pictures_are_magnified_by_whole_numbers(width, side):
    assert magnified(width, 224) == side


# The gallery to play with


def test_the_numbers_of_a_set_are_those_of_its_arrays():
    arrays = fakes.gallery(k=5, channels=3, side=8)
    made = play(arrays, DIGITS)
    assert made
    assert (made.sets, made.count) == (["D_R", "D_NR", "D_rand", "D_rand_other", "D_det"], 5)
    item = made.data["sets"][4]
    moved = arrays["D_det"].astype(np.float64) - arrays["D"]
    assert item["l2"] == pytest.approx(np.linalg.norm(moved.reshape(5, -1), axis=1))
    assert item["linf"] == pytest.approx(np.abs(moved).reshape(5, -1).max(1))
    assert item["labels"] == arrays["D_det.labels"].tolist()
    assert item["steps"] == [0, 1, 3, 8, 20]
    read = opened(item["sheet"])
    assert read.shape == (5 * 8, (5 + 4) * 8, 3)  # the start and four frames, and four differences
    as_pixels = [np.rint(255 * arrays[name]).astype(np.uint8).transpose(0, 2, 3, 1) for name in ("D", "D_det")]
    for row in range(5):
        assert np.array_equal(read[8 * row : 8 * row + 8, :8], as_pixels[0][row])
        assert np.array_equal(read[8 * row : 8 * row + 8, 32:40], as_pixels[1][row])
    matched = opened(made.data["sets"][0]["sheet"])
    assert matched.shape == (5 * 8, (5 + 4 + 1) * 8, 3)
    assert np.array_equal(matched[:8, 72:], as_pixels[0][0])  # the target
    assert made.has_sizes
    kept = (arrays["D_rand.labels"] == arrays["D.labels"]).tolist()
    sizes = made.data["sets"][2]["size"]
    assert sizes == [[None, None] if one else [0.25, pytest.approx(0.05)] for one in kept]  # JSON has no NaN
    assert made.data["sets"][0]["alike"][0] == pytest.approx([0.4, 0.6])


def test_a_difference_smaller_than_a_grey_level_is_seen():
    arrays = fakes.gallery(k=2)
    arrays["D_det"] = np.clip(arrays["D"] + np.float32(1e-4), 0, 1)
    arrays["D_det.moved"] = np.repeat((arrays["D_det"] - arrays["D"])[:, None], 4, 1).astype(np.float16)
    made = play(arrays, DIGITS)
    assert made
    item = made.data["sets"][4]
    assert item["gains"][0] > 4000
    differences_of_first = opened(item["sheet"])[:8, 5 * 8 :]
    assert differences_of_first.min() >= 127
    assert differences_of_first.max() > 240


def test_an_old_gallery_has_start_and_end():
    made = play(old_gallery(k=3), ["a"])
    assert made
    assert not made.has_success
    assert {item["frames"] for item in made.data["sets"]} == {2}
    assert made.classes[0] == "a"
    assert max(made.data["sets"][4]["labels"]) < len(made.classes)


def test_a_gallery_fits_its_budget(monkeypatch):
    arrays = fakes.gallery(k=12, channels=3, side=32)
    whole = play(arrays, DIGITS)
    assert whole
    assert whole.count == 12
    size = sum(len(item["sheet"]) for item in whole.data["sets"])
    monkeypatch.setattr("notbugs.report.gallery.BUDGET", size // 2)
    half = play(arrays, DIGITS)
    assert half
    assert 4 <= half.count <= 6
    monkeypatch.setattr("notbugs.report.gallery.BUDGET", 10)
    assert play(arrays, DIGITS) is None


@pytest.mark.parametrize("name", ["D_R.moved", "D_R.scores", "D_R.success", "D_R.steps"])
def test_arrays_that_do_not_fit_are_refused(tmp_path, name):
    arrays = fakes.gallery()
    arrays[name] = np.ascontiguousarray(arrays[name][:3])
    save_file(arrays, tmp_path / "gallery.safetensors")
    with pytest.raises(InputError, match="is not a gallery"):
        read_gallery(tmp_path / "gallery.safetensors")


# The idea


def drawn(arrays=None, classes=DIGITS):
    return idea(arrays or fakes.gallery(), study_accuracies(fakes.results()), classes)


def test_the_drawing_has_the_numbers_of_the_run():
    found = drawn()
    assert found
    assert found.features
    assert found.relabelled
    accuracies = study_accuracies(fakes.results())
    for branch in found.features.branches:
        member = accuracies.get(branch.name)
        assert member
        assert (branch.clean, branch.robust) == (member.clean, member.robust[0.25])
        assert branch.start != found.features.label
    assert found.features.attack == "l2 0.25"
    other = accuracies.get("D_rand_other")
    assert other
    assert (found.relabelled.name, found.relabelled.clean) == ("D_rand_other", other.clean)
    assert found.relabelled.before != found.relabelled.label
    assert found.chance == 0.1


def test_the_drawing_likes_a_dog_that_becomes_a_cat():
    arrays = fakes.gallery(k=30)
    arrays["D_rand_other.start_labels"][[4, 20]], arrays["D_rand_other.labels"][[4, 20]] = 7, 2
    arrays["D_rand_other.success"][[4, 20]] = [False, True]
    names = ["a", "b", "cat", "d", "e", "f", "g", "dog", "h", "a name that is long"]
    found = drawn(arrays, names)
    assert found
    assert found.relabelled
    assert (found.relabelled.before, found.relabelled.label) == ("dog", "cat")
    moved = np.rint(255 * arrays["D_rand_other"][20, 0]).astype(np.uint8)
    assert np.array_equal(opened(found.relabelled.moved), moved)


def test_long_names_are_cut():
    found = drawn(classes=["an endless name of a class"] * 10)
    assert found
    assert found.features
    assert found.features.label == "an end…class"


def test_no_drawing_without_its_parts():
    accuracies = study_accuracies(fakes.results())
    only_d = {name: array for name, array in fakes.gallery().items() if name.partition(".")[0] == "D"}
    assert idea(only_d, accuracies, DIGITS) is None
    assert play(only_d, DIGITS) is None
    some = {name: array for name, array in fakes.gallery().items() if name.partition(".")[0] in ("D", "D_det")}
    half = idea(some, accuracies, DIGITS)
    assert half
    assert half.features is None
    assert half.relabelled
    assert half.relabelled.name == "D_det"


def test_an_old_gallery_still_gives_a_page(tmp_path):
    fakes.write_study(tmp_path)
    save_file(old_gallery(), tmp_path / "gallery.safetensors")
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert 'id="play"' in html
    assert 'id="idea"' in html
    assert 'id="play-success"' not in html
