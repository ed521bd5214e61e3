from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from notbugs import threat
from notbugs.classifier import Classifier
from notbugs.data import Data, Images
from notbugs.errors import InputError
from notbugs.measure import spatial_accuracy
from notbugs.search import PGDSteps, search, spatial_pgd, worst_of
from notbugs.search.objectives import away_from
from notbugs.seeds import generator
from notbugs.threat import BOX, Spatial
from notbugs.training import SpatialTraining, Training, new_classifier, train
from notbugs.training import loop as training_loop
from tests.conftest import bars, random_images
from tests.test_training import fresh, same

FREE = Spatial(180, 10)


def parameters(*rows: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 7, 7), (3, 28, 28), (2, 6, 9)])
def test_the_identity_and_whole_shifts_are_exact(shape):
    images = random_images(2, shape)
    assert torch.equal(FREE.apply(images, torch.zeros(2, 3)), images)
    moved = FREE.apply(images, parameters((0, 2, -1), (0, -3, 4)))
    for one, image, (down, right) in zip(moved, images, [(2, -1), (-3, 4)], strict=True):
        expected = image.roll((down, right), (1, 2))
        rows = slice(0, down) if down > 0 else slice(down, None)
        columns = slice(0, right) if right > 0 else slice(right, None)
        expected[:, rows] = 0
        expected[:, :, columns] = 0
        assert torch.equal(one, expected)


def test_rotations_by_right_angles_are_rot90():
    images = random_images(4, (2, 7, 7))
    turned = FREE.apply(images, parameters((90, 0, 0), (180, 0, 0), (-90, 0, 0), (0, 0, 0)))
    for one, image, times in zip(turned, images, (1, 2, -1, 0), strict=True):
        torch.testing.assert_close(one, image.rot90(times, (1, 2)), atol=1e-5, rtol=0)


def test_it_turns_first_and_then_moves():
    images = random_images(1, (1, 8, 8))
    both = FREE.apply(images, parameters((90, 1, 2)))
    one_by_one = FREE.apply(FREE.apply(images, parameters((90, 0, 0))), parameters((0, 1, 2)))
    torch.testing.assert_close(both, one_by_one, atol=1e-5, rtol=0)


def test_white_stays_in_range_however_a_device_adds(monkeypatch):
    """One after another, the weights of four neighbours add up to 1 + 2**-23 in 3 of 10,000 places."""
    plain = threat.grid_sample
    monkeypatch.setattr(threat, "grid_sample", lambda *given, **how: plain(*given, **how) * (1 + 2**-23))
    turned = FREE.apply(torch.ones(4, 1, 8, 8), FREE.random(4, generator(0)))
    assert float(turned.max()) == 1


def test_half_a_pixel_is_the_mean_of_two():
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 2] = 1
    moved = FREE.apply(image, parameters((0, 0.5, 0)))
    assert moved[0, 0, 2, 2] == moved[0, 0, 3, 2] == 0.5
    assert moved.sum() == 1


def test_its_gradient_is_that_of_finite_differences():
    images = random_images(3, (2, 6, 6)).double()
    places = parameters((10.3, 0.4, -0.7), (-33.1, 1.3, 0.2), (71.9, -0.6, 0.3)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda places: FREE.apply(images, places), places, eps=1e-7, atol=1e-4)
    assert torch.autograd.gradcheck(lambda images: FREE.apply(images, places.detach()), images.requires_grad_())


def test_an_images_transformation_does_not_depend_on_its_batch():
    images, places = random_images(5, (3, 9, 9)), Spatial(40, 2).random(5, generator(0))
    together = FREE.apply(images, places)
    assert all(
        torch.equal(together[i], FREE.apply(images[i : i + 1], places[i : i + 1])[0]) for i in range(len(images))
    )


def test_the_valid_parameters():
    spatial = Spatial(30, 3)
    drawn = spatial.random(1000, generator(0))
    assert (drawn.abs().amax(0) <= torch.tensor([30.0, 3, 3])).all()
    assert (drawn.abs().amax(0) > torch.tensor([29.0, 2.9, 2.9])).all()
    grid = spatial.grid()
    assert len(grid) == 775
    assert len(grid.unique(dim=0)) == 775
    assert grid.unique(dim=0)[:, 1].unique().tolist() == [-3, -1.5, 0, 1.5, 3]
    assert grid[-1].tolist() == [0, 0, 0]  # the smallest change comes last
    assert spatial.grid(1, 1).tolist() == [[0, 0, 0]]
    torch.testing.assert_close(spatial.inside(spatial.place(drawn)), drawn)
    assert Spatial(30, 0).place(parameters((30, 0, 0))).flatten().tolist() == [1, 0.5, 0.5]
    middle = torch.full((1000, 3, 1, 1), 0.5)
    box = middle + BOX.start(middle, generator(1))  # the loop's valid places are the valid parameters
    assert 0 <= box.min() < 0.01 < 0.99 < box.max() <= 1


def test_bad_arguments_are_refused(linear):
    with pytest.raises(InputError, match="'degrees' must be at most 180"):
        Spatial(181, 0)
    with pytest.raises(InputError, match="'pixels' must be a number at or above 0"):
        Spatial(0, -1)
    with pytest.raises(InputError, match="'angles'"):
        Spatial(1, 1).grid(angles=0)
    images = Images(random_images(2, (1, 3, 3)), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="'tries'"):
        spatial_accuracy(linear, images, Spatial(1, 1), tries=0)


class Where(nn.Module):
    """Logit 0 is how far right the image's mass is, in pixels from the middle; logit 1 is a bound."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = nn.Parameter(torch.tensor(bound))

    def forward(self, images):
        columns = torch.arange(images.shape[3]) - (images.shape[3] - 1) / 2
        mass = images.sum((1, 2)).clamp_min(1e-6)
        right = (mass * columns).sum(1) / mass.sum(1)
        return torch.stack([right, self.bound.expand(len(images))], dim=1)


def blobs(count: int = 4) -> torch.Tensor:
    """Round, in the middle of 1x15x15 images; no shift by 3 pixels takes any of it out."""
    place = torch.arange(15.0) - 7
    one = (-(place[:, None] ** 2 + place**2) / 2).exp() * (place.abs() < 4) * (place.abs() < 4)[:, None]
    return one.expand(count, 1, 15, 15).contiguous()


def test_gradient_search_finds_the_worst_shift():
    """Label 0 stands as long as the mass is right of the bound: furthest left is worst, whatever the rotation."""
    found = spatial_pgd(Classifier(Where(-9.0)), blobs(), torch.zeros(4, dtype=torch.int64), Spatial(30, 2.5))
    torch.testing.assert_close(found.parameters[:, 2], torch.full((4,), -2.5))
    torch.testing.assert_close(found.score, torch.full((4,), 9 - 2.5), atol=1e-2, rtol=0)
    torch.testing.assert_close(found.images, Spatial(30, 2.5).apply(blobs(), found.parameters))


@pytest.mark.parametrize(("bound", "robust"), [(-2.6, 1.0), (-2.4, 0.0)])
def test_every_search_breaks_what_can_be_broken(bound, robust):
    images = Images(blobs(), torch.zeros(4, dtype=torch.int64))
    found = spatial_accuracy(Classifier(Where(bound)), images, Spatial(30, 2.5), tries=200, batch=3)
    assert found.clean.value == 1
    assert found.grid.value == found.random.value == found.gradient.value == found.worst.value == robust
    assert found.worst.n == 4


def test_the_search_starts_where_it_is_told():
    start = parameters(*[(10, 2, 1)] * 4)
    found = spatial_pgd(
        Classifier(Where(-9.0)), blobs(), torch.zeros(4, dtype=torch.int64), Spatial(30, 2.5),
        PGDSteps(1, 1e-6), start=start,
    )  # fmt: skip
    torch.testing.assert_close(found.parameters, start, atol=1e-3, rtol=0)


class Total(nn.Module):
    """A statistic that no rotation or shift changes while the mass stays inside."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        total = images.sum((1, 2, 3)) * self.scale
        return torch.stack([total, 9 - total], dim=1)


def test_an_invariant_classifier_keeps_its_clean_accuracy():
    pixels = torch.cat([blobs(3), blobs(3) * 0.4])  # totals of 6.2 and 2.5
    images = Images(pixels, torch.tensor([0, 0, 1, 1, 1, 0]))  # two of six are wrong
    found = spatial_accuracy(Classifier(Total()), images, Spatial(180, 3), angles=7)
    assert found.clean == found.grid == found.random == found.gradient == found.worst
    assert found.clean.value == pytest.approx(4 / 6)


def test_accuracy_does_not_depend_on_the_batch(bars_data):
    classifier = train(fresh(bars_data), bars_data.train, Training(epochs=2, batch=32, lr=0.05))
    how = {"shifts": 3, "angles": 5, "tries": 4, "steps": 4, "restarts": 2}
    one, other = (
        spatial_accuracy(classifier, bars_data.test, Spatial(20, 2), **how, batch=batch) for batch in (7, 250)
    )
    assert one == other
    assert one.worst.value <= min(one.grid.value, one.random.value, one.gradient.value)
    assert max(one.grid.value, one.random.value, one.gradient.value) <= one.clean.value
    told = []
    spatial_accuracy(
        classifier,
        bars_data.test,
        Spatial(20, 2),
        **how,
        progress=lambda done, total, note="": told.append(done / total),
    )
    assert told == sorted(told)
    assert told[-1] == 1
    assert str(one).startswith("rotations 20 degrees, shifts 2 pixels: ")


def test_the_loop_is_the_one_loop(monkeypatch):
    """`spatial_pgd` is `search` in other coordinates."""
    classifier, labels = Classifier(Where(-9.0)), torch.zeros(4, dtype=torch.int64)
    spatial, schedule = Spatial(30, 2.5), PGDSteps(3)

    def objective(box, labels, images):
        return away_from(classifier)(spatial.apply(images, spatial.inside(box)), labels)

    plain = search(objective, torch.full((4, 3, 1, 1), 0.5), (labels, blobs()), BOX, schedule)
    found = spatial_pgd(classifier, blobs(), labels, spatial, schedule)
    assert torch.equal(spatial.inside(plain.images), found.parameters)
    assert torch.equal(plain.score, found.score)


def test_worst_of_takes_the_largest_loss(small):
    images, labels = random_images(5), torch.tensor([0, 1, 2, 3, 0])
    small.train()
    tries = Spatial(30, 2).random(20, generator(0)).view(5, 4, 3)
    chosen = worst_of(small, images, labels, Spatial(30, 2), tries)
    assert small.training
    small.eval()
    losses = torch.stack(
        [cross_entropy(small(FREE.apply(images, t)), labels, reduction="none") for t in tries.unbind(1)]
    )
    torch.testing.assert_close(cross_entropy(small(chosen), labels, reduction="none"), losses.amax(0))


SHORT = Training(epochs=3, batch=16, lr=0.05, shift=1, spatial=SpatialTraining(degrees=20, pixels=1, tries=3))


def test_spatial_training_repeats_and_resumes_to_the_bit(bars_data, tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", -1.0)
    file = tmp_path / "checkpoint.safetensors"
    whole = train(fresh(bars_data), bars_data.train, SHORT)
    assert not same(whole, train(fresh(bars_data), bars_data.train, SHORT.model_copy(update={"spatial": None})))

    def kill_in_the_third_epoch(done, total, note=""):
        if done > 2 * total / 3 + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fresh(bars_data), bars_data.train, SHORT, checkpoint=file, progress=kill_in_the_third_epoch)
    assert file.exists()
    assert same(whole, train(fresh(bars_data, seed=9), bars_data.train, SHORT, checkpoint=file))


def test_training_with_it_raises_spatial_accuracy():
    """Bars, whose class is the bright half: a rotation by half a turn would swap them, by 45 degrees does not."""
    data = Data("bars", bars(400, 0), bars(100, 1), ("left", "right"))
    settings = Training(epochs=8, batch=32, lr=0.05)
    turned = settings.model_copy(update={"spatial": SpatialTraining(degrees=45, pixels=2, tries=5)})
    standard, spatial = (
        spatial_accuracy(
            train(new_classifier(data, width=8, features=8, precision="fp32"), data.train, how),
            data.test, Spatial(45, 2), shifts=3, angles=7, tries=4, steps=5, restarts=2,
        )
        for how in (settings, turned)
    )  # fmt: skip
    assert spatial.worst.low > standard.worst.high
    assert spatial.clean.value > 0.9
