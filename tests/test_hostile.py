"""Hostile and careless input, place by place: refused in one line before work, or answered rightly."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import struct
import zipfile
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rich.table
import torch
from rich.text import Text
from safetensors.torch import load_file, save_file

from notbugs import load
from notbugs.__main__ import main
from notbugs.classifier import Classifier
from notbugs.console import TerminalConsole, show, tell
from notbugs.construct import robustify
from notbugs.data import Data, Images
from notbugs.errors import InputError
from notbugs.files import has_writer, only_maker, only_writer, write_json, write_text
from notbugs.models import Blueprint, build, load_classifier, save_classifier
from notbugs.records import write_model
from notbugs.report import write_figures, write_report
from notbugs.report.tables import comma_separated
from notbugs.search import PGDSteps
from notbugs.seeds import generator
from notbugs.study import read_recipe
from notbugs.study.results import Expectations
from tests import fakes
from tests.pictures import encoded, noise

pytestmark = pytest.mark.whole


def line(capsys) -> str:
    """The only line on standard error."""
    text = capsys.readouterr().err
    assert text.startswith("notbugs: "), text
    assert text.count("\n") == 1, text
    for words in ("Traceback", "errors.pydantic.dev", "went wrong where it should not"):
        assert words not in text
    return text


# Arrays


IMAGES, LABELS = noise(24, 8, 8), np.arange(24) % 3


def header(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    """The first bytes of an npy file that says it has `shape`."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def npz(path, **arrays: np.ndarray | bytes) -> None:
    """An archive of arrays, or of the bytes of one."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in arrays.items():
            data = io.BytesIO()
            if isinstance(array, bytes):
                data.write(array)
            else:
                np.save(data, array)
            file.writestr(f"{name}.npy", data.getvalue())


SPLIT = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES, "test_labels": LABELS}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "training split of labels in"),
        (SPLIT | {"test_images": IMAGES[:0], "test_labels": LABELS[:0]}, "test split of labels in"),
        (SPLIT | {"train_images": IMAGES[:0], "train_labels": LABELS[:0]}, "training split of labels"),
        (
            {"images": IMAGES, "labels": np.where(LABELS == 2, np.iinfo(np.int64).max, LABELS)},
            "must be between 0 and 23",
        ),
        ({"images": IMAGES, "labels": np.where(LABELS == 2, 10**12, LABELS)}, "Got 1000000000000 instead"),
        ({"images": IMAGES, "labels": LABELS.astype(np.uint64) + np.uint64(2**63)}, "must be below 2**63"),
        ({"images": IMAGES, "labels": LABELS * 1e300}, "must be whole numbers or names"),
        ({"images": IMAGES, "labels": header((24, 2**20), "<i8") + bytes(64)}, "labels promises 201.3 MB"),
        ({"images": header((2**40, 2**20, 2**20)), "labels": LABELS}, "images promises 1208925819614629.2 GB"),
        ({"images": header((24, 0, 8)), "labels": LABELS}, "have no pixels: they are 1 x 0 x 8"),
        ({"images": header((-1, 8, 8)), "labels": LABELS}, "its shape is (-1, 8, 8)"),
        ({"images": IMAGES, "labels": np.where(LABELS == 2, 10**12, 1)}, "Got 1000000000000 instead"),
    ],
)
def test_arrays(tmp_path, capsys, arrays, words):
    npz(tmp_path / "x.npz", **arrays)
    assert main(["train", "--quiet", "--data", str(tmp_path / "x.npz"), "--out", str(tmp_path / "m.safetensors")]) == 2
    assert words in line(capsys)
    assert [file.name for file in tmp_path.iterdir()] == ["x.npz"]


def test_names_that_are_no_text_go_through_to_the_results(tmp_path):
    npz(tmp_path / "x.npz", images=IMAGES, labels=np.array(["caf\udce9", "tea", "\u202e"])[LABELS])
    assert load(tmp_path / "x.npz").classes == ("caf\\udce9", "tea", "\u202e")


def test_an_array_that_is_there_twice(tmp_path):
    npz(tmp_path / "x.npz", images=IMAGES, labels=LABELS)
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("labels.npy", b"")
    with pytest.raises(InputError, match="holds 'labels' twice"):
        load(tmp_path / "x.npz")


def test_an_unknown_compression(tmp_path):
    npz(tmp_path / "x.npz", images=IMAGES, labels=LABELS)
    raw = bytearray((tmp_path / "x.npz").read_bytes())
    for mark, at in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        place = -1
        while (place := raw.find(mark, place + 1)) >= 0:
            raw[place + at] = 99
    (tmp_path / "x.npz").write_bytes(raw)
    with pytest.raises(InputError, match="is not a readable npz file"):
        load(tmp_path / "x.npz")


def test_a_bomb_is_weighed_before_it_is_unpacked(tmp_path, monkeypatch):
    """A thousand bytes for each that is stored: what a machine of less memory is told."""
    count = 3_000_000
    npz(tmp_path / "x.npz", images=header((count, 8, 8)), labels=header((count,), "<i8") + bytes(8 * count))
    with pytest.raises(InputError, match="images promises 192.0 MB and holds"):
        load(tmp_path / "x.npz")


def test_labels_that_are_no_labels_of_the_images_are_not_unpacked(tmp_path):
    npz(
        tmp_path / "x.npz",
        images=header((4, 8, 8)) + bytes(256),
        labels=header((3_000_000,), "<i8") + bytes(24_000_000),
    )
    with pytest.raises(InputError, match=r"label for each row of images \(4, 8, 8\)\. Got 'the shape \(3000000,\)'"):
        load(tmp_path / "x.npz")


# Parquet


PNGS = [encoded(image) for image in IMAGES]


def parquet(path, image, label, metadata: bytes | None = None) -> None:
    table = pa.table({"image": image, "label": label})
    pq.write_table(table.replace_schema_metadata({"huggingface": metadata}) if metadata else table, path)


def features(names: object) -> bytes:
    return json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}}).encode()


@pytest.mark.parametrize(
    ("image", "label", "metadata", "words"),
    [
        (pa.array([], pa.binary()), pa.array([], pa.int64()), None, "train.parquet has no rows"),
        (PNGS, np.where(LABELS == 2, 10**12, LABELS), None, "must be between 0 and 23"),
        (PNGS, np.where(LABELS == 2, np.iinfo(np.int64).max, LABELS), None, "must be between 0 and 23"),
        (pa.array([[] for _ in PNGS], pa.list_(pa.uint8())), LABELS, None, "Got (24, 0) instead"),
        (pa.array([[[]] for _ in PNGS], pa.list_(pa.list_(pa.uint8()))), LABELS, None, "have no pixels"),
        (PNGS, LABELS, features(7), "('0', '1', '2')"),
        (PNGS, LABELS, features({"a": 1}), "('0', '1', '2')"),
        (PNGS, LABELS, features([1, 2, 3]), "that are no names, or one twice: [1, 2, 3]"),
        (PNGS, LABELS, features(["a", None, "c"]), "no names, or one twice: ['a', None"),
        (PNGS, LABELS, features(["a", "a", "a"]), "no names, or one twice"),
        (PNGS, LABELS, b'{"info": ' + b"[" * 100_000, "('0', '1', '2')"),
        (PNGS, LABELS, b'{"info": {"features": [1]}}', "('0', '1', '2')"),
        (PNGS, LABELS, b"\xff\xfe", "('0', '1', '2')"),
    ],
)
def test_parquet(tmp_path, image, label, metadata, words):
    parquet(tmp_path / "train.parquet", image, label, metadata)
    try:
        said = str(load(tmp_path).classes)
    except InputError as error:
        said = str(error)
    assert words in said


def test_names_that_are_null_are_no_names(tmp_path):
    parquet(tmp_path / "train.parquet", PNGS, LABELS, features(None))
    assert load(tmp_path).classes == ("0", "1", "2")


# Checkpoints


def classifier(path, **changes: object) -> None:
    """A file of `notbugs train`, with another blueprint."""
    made = Classifier(build("cnn", channels=1, classes=10, size=8, width=4, features=6), mean=[0.5], std=[0.5])
    options = {"width": 4, "features": 6}
    save_classifier(
        path, made, Blueprint(architecture="cnn", shape=(1, 8, 8), classes=tuple("0123456789"), options=options)
    )
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        (key,) = (name for name in file.metadata() if name != "checksum")
        said = json.loads(file.metadata()[key])
    said["blueprint"] |= changes
    save_file(load_file(path), path, {key: json.dumps(said)})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"options": {"width": 10**6, "features": 6}}, "must have at most 2,000,000,000 weights"),
        ({"options": {"width": 10**30}}, "must be at most 9,223"),
        ({"options": {"width": -4}}, "'width' must be a whole number at or above 1"),
        ({"options": {"width": "4"}}, "'width' must be a whole number at or above 1. Got '4'"),
        ({"options": {"classes": 3}}, "'classes' is no option of an architecture"),
        ({"options": {"nonsense": 3}}, "'option of cnn' must be one of width"),
        ({"options": []}, "Input should be a valid dictionary"),
        ({"architecture": "subprocess:getoutput"}, "A file alone never makes"),
        ({"architecture": "../../etc"}, "'architecture' must be one of cnn"),
        ({"architecture": 3}, "should be a valid string"),
        ({"shape": [1, 0, 8]}, "must be"),
        ({"classes": []}, "at least 2 items"),
        ({"classes": ["a", "a", "b"]}, "none is called so"),
    ],
)
def test_blueprints(tmp_path, capsys, changes, words):
    classifier(tmp_path / "c.safetensors", **changes)
    assert main(["evaluate", str(tmp_path / "c.safetensors"), "--data", "digits", "--quiet"]) == 2
    assert words in line(capsys)


def round_about() -> dict[str, object]:
    found: dict[str, object] = {"weight": torch.ones(2)}
    found["self"] = found
    return found


@pytest.mark.filterwarnings("ignore:.*quantize")
@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            lambda whole: {name: value.to(torch.complex64) for name, value in whole.items()},
            "torch.complex64 in place of",
        ),
        (lambda whole: {name: value.to("meta") for name, value in whole.items()}, "holds meta (a shape"),
        (lambda whole: {name: value.to_sparse() for name, value in whole.items()}, "holds sparse tensors"),
        (
            lambda whole: {n: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8) for n, value in whole.items()},
            "holds quantised tensors",
        ),
        (lambda whole: round_about(), "fit no layer of the network"),
    ],
)
def test_odd_tensors(tmp_path, state, words):
    network = build("cnn", channels=1, classes=3, size=8, width=4, features=6)
    torch.save(state({name: value.float() for name, value in network.state_dict().items()}), tmp_path / "w.pt")
    how = {"architecture": "cnn", "shape": (1, 8, 8), "classes": tuple("abc"), "mean": [0.5], "std": [0.5]}
    with pytest.raises(InputError) as found:
        load_classifier(tmp_path / "w.pt", **how, width=4, features=6)
    print(found.value)
    assert words in str(found.value)


# Command lines, recipes and paths


RECIPES = {
    "small_int": ("small = 3\n", "small' must be a table of settings"),
    "small_list": ("small = [1]\n", "small' must be a table of settings"),
    "deep": (f"name = {'[' * 5000}{']' * 5000}\n", "nested too deep"),
    "deep_table": (f"[{'.'.join('a' * 3000)}]\nb = 1\n", "Got something nested too deep to show"),
    "deep_inline": (f"x = {'{a = ' * 3000}1{'}' * 3000}\n", "nested too deep"),
    "nul": ("name = '\0'\n", "Found invalid character"),
    "bom": ("\ufeffname = 'x'\n", "Invalid statement"),
    "number": (f"seed = {'9' * 5000}\n", "Exceeds the limit (4300 digits)"),
    "name": ("name = '../../etc'\n", "'name' is wrong"),
    "no_name": ("name = ''\n", "'name' is wrong"),
    "slash": ("name = 'a/b'\n", "'name' is wrong"),
    "nan": ("[standard]\nrate = nan\n", "Got nan instead"),
    "infinite": ("[relabelling]\neps = inf\n", "finite number"),
    "many": (f"[evaluation]\nradii = [{', '.join(str(n / 1e5) for n in range(1, 200))}]\n", "at most 100 items"),
    "data": ("[data]\nname = [1]\n", "'data' is wrong"),
    "other": ("[architecture]\nname = 'sys:exit'\n", "names code to run, 'sys:exit'"),
    "departures": ("departures = 7\n", "'departures' is wrong"),
    "departures_table": ("[departures]\na = 1\n", "'departures' is wrong"),
    "instrument": (
        "[instruments.transfer]\non = true\narchitectures = ['subprocess:getoutput']\n",
        "names code to run, 'subprocess:getoutput'",
    ),
    "instrument_number": ("[instruments.transfer]\non = true\narchitectures = [3]\n", "architectures.0' is wrong"),
    "instrument_other": (
        "[instruments.transfer]\non = true\narchitectures = ['']\n",
        "'architecture' must be a name and options",
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(tmp_path, name):
    text, words = RECIPES[name]
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(InputError) as found:
        read_recipe(tmp_path / "r.toml", {"robust": {"adversary": {"eps": 1.0}}})
    assert words in str(found.value)
    assert "errors.pydantic.dev" not in str(found.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("run digits --train-images 1 --quiet", "Every class must have a training image"),
        ("run digits --test-images 1 --quiet", "must name two classes that have test images"),
        ("run digits --train-images 0", "greater than or equal to 1"),
        ("run digits --test-images -1", "greater than or equal to 1"),
        ("run digits --train-images 99999999999999999999", "train_images must be at most"),
        ("run digits --arch sys:exit --quiet", "must name a function in Python"),
        ("run digits --arch os:getcwd --quiet", "must name a function in Python"),
        ("run digits --arch nowhere:make --quiet", "could not be imported"),
        ("run digits --device hpu", "must be one that torch has"),
        ("run digits --device cuda:99", "must be one that torch has"),
        ("run digits --device meta --quiet", "must be one that torch has"),
        ("run digits --evaluation.attack.restarts 1000000000000000000000000000000", "restarts must be at most"),
        ("run digits --out /proc/x", "'out' must be writable"),
        ("run digits --out /dev/null", "/dev/null is a file"),
        ("train --data digits --out pipe --quiet", "must end in .safetensors"),
        ("train --data digits --out loop.safetensors --quiet", "'out' must not be there yet"),
        ("train --data digits --out /proc/x.safetensors --quiet", "'out' must be writable"),
        ("train --data digits --out folder.safetensors --quiet", "'out' must not be there yet"),
        ("train --data pipe --out m.safetensors --quiet", "neither a file nor a folder"),
        ("train --data pipe.npz --out m.safetensors --quiet", "neither a file nor a folder"),
        ("train --data /dev/zero --out m.safetensors --quiet", "neither a file nor a folder"),
        ("train --data loop.safetensors --out m.safetensors --quiet", "There is no 'loop.safetensors'"),
        ("train --data x.npz --size 30000 --out m.safetensors --quiet", "'size' must be at most 4,096 pixels"),
        ("train --data ~nobodyhere/x.npz --out m.safetensors --quiet", "There is no '~nobodyhere/x.npz'"),
        ("train --data digits --epochs 0 --out m.safetensors --quiet", "greater than or equal to 1"),
        ("train --data digits --batch 9999999999 --out m.safetensors --quiet", "batch must be at most"),
        ("train --data digits --epochs 99999999999 --out m.safetensors --quiet", "epochs must be at most"),
        ("evaluate pipe --data digits --quiet", "pipe is a pipe, a socket or a device"),
        ("evaluate /dev/zero --data digits --quiet", "/dev/zero is a pipe, a socket or a device"),
        ("evaluate loop.safetensors --data digits --quiet", "There is no file loop"),
        ("evaluate folder.safetensors --data digits --quiet", "is a folder, not a file"),
        ("evaluate w.pt --data digits --arch cnn --mean 0 --std 1 --outputs pipe --quiet", "pipe is a pipe, a socket"),
        ("train --data x.npz --classes pipe --out m.safetensors --quiet", "pipe is a pipe, a socket"),
        ("run pipe", "There is no recipe 'pipe'"),
        ("run pipe.toml", "it is no regular file"),
        ("report pipe", "There is no pipe/results.json"),
        ("figures folder.safetensors --out /proc/x", "'out' must be writable"),
        ("status loop.safetensors", "cannot be read (Too many levels"),
        ("info pipe", "cannot be read (Not a directory)"),
        ("verify /dev/null --quiet", "must be the folder of a constructed set"),
        ("compare pipe pipe", "must be different folders"),
        ("tune / --quiet", "be of a study that was run"),
        ("audit pipe --data digits --quiet", "pipe is a pipe, a socket or a device"),
        ("transfer pipe --data digits --quiet", "pipe is a pipe, a socket or a device"),
        ("theory --out /proc/x", "'out' must be writable"),
        ("theory --out loop.safetensors", "leads nowhere"),
        ("theory --seed 99999999999999999999999999", "'seed' must be at most"),
    ],
)
def test_commands(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.mkfifo("pipe.toml")
    os.mkfifo("pipe.npz")
    os.symlink("loop.safetensors", "loop.safetensors")
    os.mkdir("folder.safetensors")
    torch.save({"a": torch.ones(1)}, "w.pt")
    npz("x.npz", images=IMAGES, labels=LABELS)
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments.split()) == 2
    assert words in line(capsys)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["NOTBUGS_MOST_SIDE", "NOTBUGS_MOST_WEIGHTS"])
@pytest.mark.parametrize("value", ["many", "0", "-1", "9" * 5000])
def test_limits_in_the_environment(tmp_path, monkeypatch, capsys, name, value):
    monkeypatch.setenv(name, value)
    npz(tmp_path / "x.npz", images=IMAGES, labels=LABELS)
    words = ["--data", str(tmp_path / "x.npz"), "--size", "4", "--out", str(tmp_path / "m.safetensors"), "--quiet"]
    assert main(["train", *words]) == 2
    assert f"The '{name}' must be" in line(capsys)


def test_a_label_alone(tmp_path):
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=np.int64(3))
    with pytest.raises(InputError, match="must be one for each image. Got '3 alone' instead"):
        load(tmp_path / "x.npz")


# Names


ESCAPES = "a\x1b[31mred\x1b]0;title\x07\x9b2J \u202eb"
SPELT = "a\\x1b[31mred\\x1b]0;title\\x07\\x9b2J \\u202eb"


def test_no_name_reaches_a_terminal_as_a_command(capsys, tmp_path):
    TerminalConsole().say(ESCAPES, "[bold]")
    table = rich.table.Table("name")
    table.add_row(Text("\x1b[31m\u202e"))
    show(table)
    with TerminalConsole().stage("\x1b[31m\ntitle"):
        tell(f"class {ESCAPES}\n1/1: done\tnow", tmp_path / "a\x9b\nb")
    assert main(["status", str(tmp_path / ESCAPES)]) == 2
    told = capsys.readouterr()
    assert "\\x1b[31m\\u202e" in told.out
    assert told.err.count(SPELT) == 2
    assert f"\nclass {SPELT}\\n1/1: done\\tnow\n" in told.out
    assert "\n\\x1b[31m\\ntitle: started\n" in told.err
    assert not set(told.out + told.err) & {"\x1b", "\x07", "\x9b", "\u202e", "\t"}


def test_no_name_turns_a_page_or_a_figure_round(tmp_path):
    results = fakes.write_study(tmp_path)
    names = [f"{ESCAPES} {number}\n" for number in range(len(results.study.data["classes"]))]
    study = results.study.model_copy(update={"data": results.study.data | {"classes": names, "name": ESCAPES}})
    write_model(tmp_path / "results.json", results.model_copy(update={"study": study}))
    assert SPELT in write_report(tmp_path).read_text(encoding="utf-8")
    write_figures(tmp_path)
    written = [file for file in tmp_path.rglob("*") if file.suffix in (".html", ".svg", ".tex", ".md", ".csv")]
    assert len(written) > 10
    for file in written:
        text = file.read_text(encoding="utf-8")
        assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e"}, file
        if file.suffix == ".svg":
            ElementTree.fromstring(text)


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1+2", "@SUM(1)", "\t=1", "\r=1"])
def test_no_name_is_a_formula(name):
    made = list(csv.reader(io.StringIO(comma_separated([{name: 1, "b": name, "c": -0.5}]), newline="")))
    shown = "'" + name.replace("\r", " ")
    assert made == [[shown, "b", "c"], ["1", shown, "-0.5"]]


def test_what_a_recipe_says_of_itself_is_text(tmp_path):
    """`departures` is what a study was changed in; a recipe from elsewhere may claim any."""
    evil = ["<script>alert(1)</script>", "=cmd()", "[bold]", "{{ 7 * 7 }}", "\u202e"]
    (tmp_path / "r.toml").write_text(f"departures = {json.dumps(evil)}\n")
    assert read_recipe(tmp_path / "r.toml", {"robust": {"adversary": {"eps": 1.0}}}).departures == tuple(evil)
    results = fakes.write_study(tmp_path)
    claimed = Expectations(time="", departures=evil, compared=[])
    write_model(tmp_path / "results.json", results.model_copy(update={"expected": claimed}))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert(1)" not in page
    assert "{{ 7 * 7 }}" in page


# Damage


def nested(values: dict, place: str, value: object) -> dict:
    """`values` with another value at a place named with dots."""
    made = json.loads(json.dumps(values))
    at = made
    *path, last = place.split(".")
    for name in path:
        at = at[int(name)] if isinstance(at, list) else at[name]
    if isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value
    return made


ODD = {
    "rows": [], "study.data": {}, "study.architecture": {}, "study.seeds": [], "study.created": "not a date",
    "study.recipe": {}, "study.data.classes": 7, "study.data.shape": "wide", "study.name": 3, "study.stages": None,
    "study.stages.0.seconds": "long", "rows.0.accuracy": 7.5, "rows.0.n": -1, "rows.0.classifier": ["a"], "study": [],
    "rows.0": 3, "sets": 3, "sets.0.name": "../../etc", "study.versions": 7, "schema": 99, "instruments": 5,
    "rows.0.accuracy ": 1, "study.classifiers": {"../../x": "y"}, "study.threads": 10**400, "study.seeds.0": 10**400,
}  # fmt: skip
"""What a results file of somebody else, with a checksum of its own, may hold in place of what belongs there."""


@pytest.mark.parametrize("place", ODD)
def test_results_that_hold_something_else(tmp_path, capsys, place):
    fakes.write_study(tmp_path / "s", with_gallery=False)
    (tmp_path / "s" / "theory.html").touch()  # which takes its time
    file = tmp_path / "s" / "results.json"
    values = json.loads(file.read_text())
    values.pop("checksum", None)
    write_json(file, nested(values, place.strip() + "_" * (place != place.strip()), ODD[place]))
    fakes.write_study(tmp_path / "t", with_gallery=False)
    two = [str(tmp_path / name) for name in "st"]
    for command in (["report", two[0]], ["compare", *two, "--quiet", "--out", str(tmp_path / "o")]):
        status = main(command)
        said = capsys.readouterr().err
        assert status in (0, 2), said
        assert status == 0 or said.count("\n") == 1
        assert status == 2 or place in ("study.recipe", "study.threads", "study.seeds.0", "study.classifiers")


@pytest.fixture(scope="module")
def constructed(tmp_path_factory):
    """A small constructed set."""
    folder = tmp_path_factory.mktemp("set")
    images = Images(torch.rand(24, 1, 8, 8, generator=generator(0, "set")), torch.arange(24) % 3)
    source = Classifier(build("cnn", channels=1, classes=3, size=8, width=4, features=6), mean=[0.5], std=[0.5])
    data = Data("random", images, images, ("a", "b", "c"))
    return robustify(source.eval(), data, folder / "set", schedule=PGDSteps(3, 0.1)).folder


@pytest.mark.parametrize("harm", ["bit", "cut", "gone", "link"])
def test_info_compares_shards_with_their_hashes(constructed, tmp_path, capsys, harm):
    folder = shutil.copytree(constructed, tmp_path / "set")
    assert main(["info", str(folder)]) == 0
    assert "damaged" not in capsys.readouterr().out
    shard = folder / "shard-00000.safetensors"
    whole = shard.read_bytes()
    shard.unlink()
    if harm == "link":
        (tmp_path / "elsewhere").write_bytes(whole)
        shard.symlink_to(tmp_path / "elsewhere")
    elif harm != "gone":
        shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) * (harm == "bit"))
    assert main(["info", str(folder)]) == 1
    assert "shard-00000.safetensors is" in capsys.readouterr().out


@pytest.mark.parametrize("out", ["pipe", "/proc/x", "full", "a" * 300, "loop"])
def test_exports_go_nowhere_odd(constructed, tmp_path, monkeypatch, capsys, out):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.mkdir("full")
    (tmp_path / "full" / "mine").touch()
    os.symlink("loop", "loop")
    assert main(["export", str(constructed), "--to", "npz", "--out", out, "--quiet"]) == 2
    assert "'out'" in line(capsys) or out == "/proc/x"
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["full", "loop", "mine", "pipe"]


def test_no_link_is_written_through(tmp_path):
    """What lies in a folder of somebody else, where notbugs writes its locks and unfinished files."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / ".results.json.part").symlink_to(precious)
    (folder / "results.json").symlink_to(precious)
    write_json(folder / "results.json", {"a": 1})
    (folder / ".lock").symlink_to(precious)
    with pytest.raises(InputError, match=r"\.lock is no regular file"), only_writer(folder):
        pass
    (folder / ".lock").unlink()
    os.mkfifo(folder / ".lock")
    with pytest.raises(InputError, match=r"\.lock is no regular file"), only_writer(folder):
        pass
    assert not has_writer(folder)
    assert precious.read_text() == "mine"


def test_a_name_of_240_characters(tmp_path):
    out = tmp_path / f"{'m' * 240}.safetensors"
    classifier(out)
    assert load_classifier(out, classes=tuple("0123456789"))
    with only_maker(out):
        write_text(out.with_suffix(".json"), "{}")
    assert sorted(len(file.name) for file in tmp_path.iterdir()) == [245, 252]
