from __future__ import annotations

import math
from dataclasses import fields
from importlib.util import find_spec
from inspect import signature

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from notbugs.data import KINDS, Augmentation, Data, Images, built_in, load, round_to_8_bits
from notbugs.data.augment import coloured
from notbugs.data.rows import Reading
from notbugs.errors import InputError
from notbugs.seeds import generator
from notbugs.study.sections import READING, Source


def images(n: int = 20, classes: int = 4) -> Images:
    return Images(torch.rand(n, 1, 4, 4, generator=generator(0)), torch.arange(n) % classes)


def test_digits_are_the_real_ones():
    data = load("digits")
    assert (len(data.train), len(data.test), data.train.shape) == (1437, 360, (1, 8, 8))
    assert data.classes == tuple("0123456789")
    assert torch.bincount(torch.cat([data.train.labels, data.test.labels])).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip
    assert set((data.train.pixels * 16).unique().tolist()) == set(range(17))
    assert load("digits").fingerprint == data.fingerprint
    carried, _ = load_digits(return_X_y=True)
    ours = torch.cat([data.test.pixels, data.train.pixels]).flatten(1) * 16
    assert sorted(ours.tolist()) == sorted(carried.tolist())


def test_a_recipe_has_every_choice_of_a_reader():
    """Each is a field of `Reading`; what is declared once more for its type or its words is not forgotten there."""
    choices = set(signature(load).parameters) - {"source", "memory", "progress"}
    assert choices == {"test_data", *(choice.name for choice in fields(Reading))} == set(READING)
    assert choices <= set(Source.model_fields)


def test_digits_of_a_scikit_learn_that_keeps_its_file_elsewhere(monkeypatch):
    pixels, classes = built_in._read_digits()
    monkeypatch.setattr(built_in, "find_spec", lambda name: find_spec("json"))
    others, same = built_in._read_digits.__wrapped__()
    assert (others == pixels).all()
    assert (same == classes).all()


def test_the_fingerprint_sees_every_byte():
    train = images()
    prints = {Data("x", train, train, tuple("abcd")).fingerprint, Data("x", train, train, tuple("abce")).fingerprint}
    changed = train.pixels.clone()
    changed[3, 0, 1, 1] += 1e-6
    prints.add(Data("x", Images(changed, train.labels), train, tuple("abcd")).fingerprint)
    prints.add(Data("x", train, Images(changed, train.labels), tuple("abcd")).fingerprint)
    assert len(prints) == 4


@pytest.mark.parametrize("bad", [-0.01, 1.01, math.nan, math.inf, 255.0])
def test_pixels_outside_the_box_are_refused(bad):
    pixels = torch.rand(3, 1, 2, 2)
    pixels[1, 0, 0, 0] = bad
    with pytest.raises(InputError, match=r"'images' must be floating point in \[0, 1\], or uint8"):
        Images(pixels, torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0, 1, 4], "abc", "'training labels' must be between 0 and 2, as there are 3 classes. Got 4"),
        ([0, 1, -1], "abc", "'training labels' must be between 0 and 2.*Got -1"),
        ([0, 0, 0], "a", "'data' must have at least two classes"),
        ([0, 1, 1], "abc", "Every class must have a training image; c has none"),
    ],
)
def test_labels_are_checked(labels, classes, message):
    made = Images(torch.rand(3, 1, 2, 2), torch.tensor(labels))
    with pytest.raises(InputError, match=message):
        Data("x", made, made, tuple(classes))


@pytest.mark.parametrize("labels", [torch.zeros(2).long(), torch.zeros(3)])
def test_labels_must_fit(labels):
    with pytest.raises(InputError, match="'labels' must be int64 of shape"):
        Images(torch.rand(3, 1, 2, 2), labels)


def test_uint8_comes_out_as_floats():
    made = Images(torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1), torch.arange(3))
    pixels, labels = made.batch(torch.tensor([2, 1]))
    assert pixels.flatten().tolist() == pytest.approx([1.0, 0.2])
    assert labels.tolist() == [2, 1]
    mean, std = Data("x", made, made, tuple("abc")).channel_statistics
    assert mean == pytest.approx([0.4])
    assert std == pytest.approx([torch.tensor([0, 0.2, 1]).std().item()])


def test_held_out_images_come_from_the_training_split_and_leave_it():
    data = Data("x", images(), Images(torch.rand(5, 1, 4, 4), torch.zeros(5).long()), tuple("abcd"))
    held = data.hold_out(0.25, 0)
    assert (len(held.train), len(held.test), held.test_name) == (15, 5, "heldout")
    rows = torch.cat([held.train.pixels, held.test.pixels]).flatten(1)
    assert {tuple(row) for row in rows.tolist()} == {tuple(row) for row in data.train.pixels.flatten(1).tolist()}
    with pytest.raises(InputError, match="'share' must be strictly between 0 and 1"):
        data.hold_out(1.0, 0)


def test_subsets_are_reproducible():
    data = Data("x", images(100), images(50), tuple("abcd"))
    one, other = data.take(40, 10, 0), data.take(40, 10, 0)
    assert one.fingerprint == other.fingerprint != data.take(40, 10, 1).fingerprint
    assert (len(one.train), len(one.test)) == (40, 10)
    assert data.take(1000, None, 0).fingerprint == data.fingerprint


@given(st.integers(0, 2**31))
def test_rounding_to_8_bits(seed):
    pixels = torch.rand(2, 1, 3, 3, generator=generator(seed))
    rounded = round_to_8_bits(pixels)
    assert (rounded - pixels).abs().max() <= 0.5 / 255 + 1e-7
    file = (rounded * 255).round().to(torch.uint8).float() / 255
    torch.testing.assert_close(rounded, file, rtol=0, atol=1e-7)


def test_augmentation_shifts_each_image_by_its_own_draw():
    pixels = torch.zeros(400, 1, 5, 5)
    pixels[:, :, 2, 2] = 1
    moved = Augmentation(shift=2)(pixels, generator(0))
    assert (moved.flatten(1).sum(1) == 1).all()
    places = moved.flatten(1).argmax(1)
    assert len(places.unique()) == 25
    assert torch.equal(moved, Augmentation(shift=2)(pixels, generator(0)))
    assert torch.equal(Augmentation()(pixels, generator(0)), pixels)


def test_augmentation_mirrors_about_half():
    pixels = torch.zeros(400, 2, 3, 3)
    pixels[..., 0] = 1
    flipped = (Augmentation(flip=True)(pixels, generator(0))[:, 0, 0, 2] == 1).sum()
    assert 150 < flipped < 250


def factors(*values: float) -> list[torch.Tensor]:
    return [torch.full((1, 1, 1, 1), float(value)) for value in values]


def test_brightness_contrast_and_saturation_have_closed_forms():
    flat = torch.full((1, 3, 4, 4), 0.4)
    torch.testing.assert_close(coloured(flat, *factors(1.5, 1, 1)), 1.5 * flat)
    assert (coloured(flat, *factors(4, 1, 1)) == 1).all()
    torch.testing.assert_close(coloured(flat, *factors(1, 0.3, 0.2)), flat)  # grey, and the same everywhere
    halves = torch.tensor([0.2, 0.6]).repeat(1, 1, 4, 2)
    torch.testing.assert_close(coloured(halves, *factors(1, 0.5, 1)), halves / 2 + 0.2)
    red = torch.tensor([0.8, 0, 0])[None, :, None, None].expand(1, 3, 4, 4)
    grey = coloured(red, *factors(1, 1, 0))
    torch.testing.assert_close(grey, torch.full((1, 3, 4, 4), 0.8 * 0.299))
    torch.testing.assert_close(coloured(red, *factors(1, 1, 0.5)), (red + grey) / 2)
    assert torch.equal(coloured(halves, *factors(1, 1, 0)), halves)  # one channel is grey


def test_each_image_has_other_colours_and_another_rotation():
    pixels = torch.rand(50, 3, 8, 8, generator=generator(0))
    plain, changed = Augmentation(2, flip=True), Augmentation(2, flip=True, jitter=0.25, degrees=2)
    drawn = changed.draw(50, generator(1))
    assert torch.equal(drawn[:, :3], plain.draw(50, generator(1))[:, :3])
    assert (drawn[:, 3:6] - 1).abs().max() <= 0.25
    assert drawn[:, 6].abs().max() <= 2
    assert len(drawn[:, 3:].unique()) == 200
    made = changed.apply(pixels, drawn)
    assert made.min() >= 0
    assert made.max() <= 1
    assert torch.equal(made[7:9], changed.apply(pixels[7:9], drawn[7:9]))
    still = Augmentation(jitter=0.25, degrees=90)
    drawn = torch.tensor([[0, 0, 0, 1, 1, 1, 90.0]])
    torch.testing.assert_close(still.apply(pixels[:1], drawn), pixels[:1].rot90(dims=(2, 3)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"jitter": 1.1}, {"jitter": -0.1}, {"degrees": 181.0}, {"degrees": -1.0}])
def test_augmentation_out_of_range(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Augmentation(**wrong)


# Sources


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "digitz",
            r"There is no 'digitz': no data set, file or folder .* Did you mean 'digits'\? Data can be given as digits",
        ),
        ("cifar-10", "Did you mean 'cifar10'"),
        ("nowhere/at/all.npz", r"There is no 'nowhere/at/all.npz': .* Data can be given as"),
        ("", "must be named. Give it with --data"),
        (" ", "must be named"),
        (__file__, "it begins as none of the formats that are read. Data can be given as"),
    ],
)
def test_a_source_that_is_not_there(source, message):
    with pytest.raises(InputError, match=message):
        load(source)


def test_every_kind_is_named_in_errors():
    with pytest.raises(InputError) as raised:
        load("?")
    assert all(kind.form in str(raised.value) for kind in KINDS)


def test_sizes_that_are_no_sizes():
    with pytest.raises(InputError, match="'size' must be a whole number at or above 1"):
        load("cifar10", size=0)
    with pytest.raises(InputError, match="'memory' must be a whole number at or above 1"):
        load("cifar10", memory=0)
    with pytest.raises(InputError, match="'size' must be left out for digits"):
        load("digits", size=4)


def test_data_say_what_they_are_and_not_every_pixel():
    data = load("digits").take(100, 50, seed=0)
    assert (
        repr(data) == "Data(digits: 100 training and 50 test images of 1x8x8, 10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)"
    )
    assert repr(data.train) == "Images(100 of 1x8x8, a label each)"
