"""One decoder: what it gives back, what it converts, what it refuses and why."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from notbugs import Images, load
from notbugs.data.decode import PLAIN, WORKERS, decode, decode_all, fit, planes
from notbugs.data.rows import Broken
from notbugs.errors import InputError
from tests.pictures import encoded, noise, png16, write_class_folder

GREY, COLOUR = noise(5, 7), noise(5, 7, 3)
PLANES = COLOUR.transpose(2, 0, 1)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_files_give_back_their_pixels(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decode(encoded(COLOUR, kind, **options), "x"), PLANES)
    if kind != "WEBP":  # which has no grey
        assert np.array_equal(decode(encoded(GREY, kind), "x"), GREY[None])


def test_a_file_decodes_as_its_bytes(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(COLOUR))
    assert np.array_equal(decode(tmp_path / "a.png", "x"), PLANES)


def test_one_bit_is_black_and_white():
    pixels = decode(encoded(Image.fromarray(GREY).convert("1")), "x")
    assert pixels.shape == (1, 5, 7)
    assert set(np.unique(pixels)) == {0, 255}


def test_palette_and_cmyk_become_rgb():
    palette = Image.fromarray(COLOUR).quantize(256)
    assert np.array_equal(decode(encoded(palette), "x"), np.asarray(palette.convert("RGB")).transpose(2, 0, 1))
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    assert np.array_equal(decode(encoded(cmyk, "TIFF"), "x"), np.asarray(cmyk.convert("RGB")).transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_divided_by_65535(kind):
    values = noise(5, 7, dtype=np.uint16)
    pixels = decode(encoded(values, kind), "x")
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels[0], values.astype(np.float32) / 65535)


def test_a_telephones_picture_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    image = Image.fromarray(np.array([[0, 255], [0, 255], [0, 255]], np.uint8))
    upright = decode(encoded(image, "PNG", exif=exif), "x")[0]
    assert upright.tolist() == [[0, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_goes_where_everything_is_opaque(mode):
    image = Image.fromarray(COLOUR).convert(mode)
    expected = np.asarray(image.convert("L" if mode == "LA" else "RGB"))
    assert np.array_equal(
        decode(encoded(image), "x").squeeze(), np.moveaxis(expected, -1, 0) if mode == "RGBA" else expected
    )
    image.putalpha(Image.fromarray(GREY))
    with pytest.raises(InputError, match=r"ghost\.png has transparent pixels.*Flatten it onto a background"):
        decode(encoded(image), "ghost.png")


def test_a_transparent_colour_of_a_palette_is_alpha_too():
    palette = Image.fromarray(COLOUR).quantize(8)
    with pytest.raises(InputError, match="has transparent pixels"):
        decode(encoded(palette, transparency=bytes([0, *[255] * 7])), "x")
    assert np.array_equal(decode(encoded(palette, transparency=bytes([255] * 8)), "x"), decode(encoded(palette), "x"))


def frames(kind: str) -> bytes:
    pictures = [Image.fromarray(noise(4, 4, seed=seed)) for seed in range(3)]
    return encoded(pictures[0], kind, save_all=True, append_images=pictures[1:])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"junk", r"bad\.png cannot be decoded"),
        (b"", r"bad\.png cannot be decoded"),
        (encoded(COLOUR)[:80], r"bad\.png cannot be decoded"),
        (encoded(noise(40, 40, 3), "JPEG")[:700], r"bad\.png cannot be decoded"),
        (png16(noise(4, 4, 3, dtype=np.uint16)), r"bad\.png has 16 bits a channel in colour, which Pillow cuts to 8"),
        (b"P6 2 1 65535\n" + bytes(12), "has 16 bits a channel in colour"),
        (frames("GIF"), "has 3 frames, and an image has one"),
        (frames("PNG"), "has 3 frames"),
        (frames("TIFF"), "has 3 frames"),
        (encoded(GREY.astype(np.float32), "TIFF"), "has 32 bits a pixel, and no range"),
        (encoded(GREY.astype(np.int32), "TIFF"), "has 32 bits a pixel"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else f"{len(value)} bytes",
)
def test_what_is_refused(data, message):
    with pytest.raises(InputError, match=message):
        decode(data, "bad.png")


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(InputError, match=r"big\.png cannot be decoded"):
        decode(encoded(COLOUR), "big.png")


def test_resizing_takes_the_square_in_the_middle():
    wide = noise(1, 6, 12)
    whole = np.asarray(Image.fromarray(wide[0]).resize((4, 2), Image.Resampling.BILINEAR))
    assert np.array_equal(fit(wide, 2)[0], whole[:, 1:3])
    turned = fit(wide.transpose(0, 2, 1), 2)[0].T
    assert np.abs(turned.astype(int) - whole[:, 1:3]).max() <= 1  # Pillow rounds between rows and columns, or not
    half = np.repeat(np.repeat(noise(1, 4, 4), 2, axis=1), 2, axis=2)
    assert fit(half, 4).shape == (1, 4, 4)
    assert fit(half.astype(np.float32) / 255, 4).dtype == np.float32


def test_resizing_is_antialiased():
    """Fine stripes become grey: nothing is skipped."""
    stripes = np.tile(np.array([0, 255], np.uint8), (1, 64, 32))
    assert np.ptp(fit(stripes, 8)[0, 2:-2, 2:-2]) <= 1
    assert abs(int(fit(stripes, 8)[0, 4, 4]) - 127) <= 1


def test_resized_floats_stay_in_the_box():
    assert fit(np.ones((1, 9, 13), np.float32), 5).max() <= 1


def test_images_decoded_in_parallel_keep_their_order():
    pictures = [noise(4, 4, seed=seed) for seed in range(40 * WORKERS + 3)]
    pieces = list(decode_all(((encoded(picture), "x", None) for picture in pictures), PLAIN))
    assert len(pieces) > 1
    assert np.array_equal(np.concatenate([np.stack(piece) for piece in pieces])[:, 0], np.stack(pictures))


def test_those_that_fail_are_named_in_their_places():
    items = [(encoded(GREY), "good", None), (b"junk", "the bad one", None)] * 3
    found = [image for piece in decode_all(items, PLAIN) for image in piece]
    assert [isinstance(image, Broken) for image in found] == [False, True] * 3
    assert (found[1].name, found[1].why) == ("the bad one", "cannot be decoded (no image of a format that is read)")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 5, 7), (2, 1, 5, 7)),
        ((2, 5, 7, 3), (2, 3, 5, 7)),
        ((2, 3, 5, 7), (2, 3, 5, 7)),
        ((2, 5, 7, 1), (2, 1, 5, 7)),
    ],
)
def test_layouts_of_arrays(shape, expected):
    array = noise(*shape)
    assert planes(array, "x").shape == expected
    assert sorted(planes(array, "x").flat) == sorted(array.flat)


def test_values_of_arrays():
    array = noise(2, 5, 7)
    assert np.array_equal(planes(array.astype(np.int64), "x")[:, 0], array)
    assert planes(array.astype(np.int64), "x").dtype == np.uint8
    assert planes(array > 99, "x").max() == 1.0
    assert planes(array / 255, "x").dtype == np.float32


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (noise(5, 7), r"'x' must have shape \(image, height, width\)"),
        (noise(2, 8, 8, 8), r"'x' must have shape"),
        (
            noise(2, 5, 7) * 2.0,
            r"'x' must hold whole numbers in 0\.\.255 or floating point in \[0, 1\].*--white-level 1023",
        ),
        (np.array([[[0, 4.2]]]), r"floating point in \[0, 1\].*--white-level 15"),
        (np.array([[[0, 1.06]]]), r"floating point in \[0, 1\].*--white-level 3"),
        (noise(2, 5, 7) / 255 - 0.5, "Undo the normalisation"),
        (np.full((2, 5, 7), np.nan), "floating point in"),
        (np.full((2, 5, 7), 4095, np.uint16), r"uint16 in \[4095, 4095\]"),
        (np.full((2, 5, 7), "a"), "'x' must hold numbers"),
    ],
    ids=str,
)
def test_arrays_that_are_no_images(array, message):
    with pytest.raises(InputError, match=message):
        planes(array, "x")


@pytest.mark.parametrize(
    ("array", "clipped", "white"),
    [
        (np.array([[[0.0, 0.5, 1.003]]]), (0, 1), None),
        (np.array([[[-0.02, 0.5, 1.05]]]), (0, 1), None),
        (np.array([[[-0.02, 0.5, 0.98]]]), (0, 1), None),
        (np.array([[[0.0, 128.0, 260.1]]]), (0, 255), 255),
        (np.array([[[-3, 128, 258]]]), (0, 255), None),
    ],
)
def test_what_resizing_overshot_is_to_be_clipped(array, clipped, white):
    """Another white would make all images darker, by three for [0, 1.003]."""
    with pytest.raises(InputError) as error:
        planes(array, "x")
    low, high = clipped
    assert f"clip the images, as np.clip(images, {low}, {high})" in str(error.value)
    assert ("--white-level 255 (white_level=255)" in str(error.value)) == (white is not None)
    assert "--white-level 3" not in str(error.value)
    assert ("or, if white is more, give --white-level 1023" in str(error.value)) == (array.dtype.kind == "i")
    found = planes(array.clip(low, high), "x", white)
    assert found.ravel().tolist() == pytest.approx((array.clip(low, high) / (high if white else 1)).ravel(), abs=1e-6)


def test_images_in_memory_that_overshoot_are_to_be_clipped():
    pixels = torch.full((2, 1, 4, 4), 1.003)
    with pytest.raises(InputError, match=r"clip the images, as torch.clip\(images, 0, 1\)"):
        Images(pixels, torch.tensor([0, 1]))
    with pytest.raises(InputError, match="Divide by 255"):
        Images(pixels * 200, torch.tensor([0, 1]))


def test_channels_that_are_asked_for(tmp_path):
    write_class_folder(tmp_path / "colour", {"cat": 3, "dog": 3}, (6, 5, 3))
    write_class_folder(tmp_path / "grey", {"cat": 3, "dog": 3}, (6, 5))
    files = [tmp_path / "colour" / name / f"{number}.png" for name in ("cat", "dog") for number in range(3)]
    luminance = np.stack([np.asarray(Image.open(file).convert("L")) for file in files])
    for memory in (None, 1):
        grey = load(tmp_path / "colour", channels=1, memory=memory)
        found = torch.cat([grey.train.batch(slice(None))[0], grey.test.batch(slice(None))[0]])
        wanted = torch.from_numpy(luminance).float() / 255
        assert grey.title == "colour (as grey images)"
        assert {image.numpy().tobytes() for image in found[:, 0]} == {image.numpy().tobytes() for image in wanted}
    one, three = load(tmp_path / "grey"), load(tmp_path / "grey", channels=3)
    assert torch.equal(three.train.batch(slice(None))[0], one.train.batch(slice(None))[0].expand(-1, 3, -1, -1))
    assert one.fingerprint == load(tmp_path / "grey", channels=1).fingerprint != three.fingerprint
    assert load("digits", channels=3).train.shape == (3, 8, 8)
    np.savez(tmp_path / "two.npz", images=noise(6, 5, 5, 2), labels=np.arange(6) % 2)
    with pytest.raises(InputError, match="'channels' must be given with grey or RGB images. Got '2 channels'"):
        load(tmp_path / "two.npz", channels=3)
