"""Files of weights made to do harm: nothing in them runs, and none of them takes time, memory or a traceback."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from notbugs.errors import InputError
from notbugs.models import load_weights

MARKER = "pwned"
MKDIR = b"cos\nmkdir\n"
TOUCH = MKDIR + b"(X\x05\x00\x00\x00pwnedt"
"""The function, and its arguments."""
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


def storage(key: bytes = b"0", kind: bytes = b"FloatStorage") -> bytes:
    """A persistent id of a storage with 4 numbers."""
    return (
        b"((X\x07\x00\x00\x00storagectorch\n"
        + kind
        + b"\nX"
        + len(key).to_bytes(4, "little")
        + key
        + b"X\x03\x00\x00\x00cpuK\x04tQ"
    )


def tensor(size: bytes, stride: bytes, offset: bytes = b"K\x00", **how: bytes) -> bytes:
    """The opcodes of a tensor; of sizes and strides those between the mark and the tuple."""
    return TENSOR + storage(**how) + offset + b"(" + size + b"t(" + stride + b"t\x89NtR"


def entry(value: bytes, name: bytes = b"weight") -> bytes:
    """The opcodes that put a value into a dictionary."""
    return b"X" + len(name).to_bytes(4, "little") + name + value + b"s"


FINE = entry(tensor(b"K\x02K\x02", b"K\x02K\x01"))
BIAS = entry(tensor(b"K\x02", b"K\x01"), b"bias")


def saved(path: Path, *entries: bytes, whole: bytes | None = None) -> Path:
    """An archive as `torch.save` writes it, with a pickle of our own."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a/data.pkl", whole or b"\x80\x02}" + b"".join(entries) + b".")
        archive.writestr("a/data/0", struct.pack("<4f", 1, 2, 3, 4))
    return path


def network() -> nn.Module:
    return nn.Linear(2, 2)


RUNS = {
    "REDUCE": TOUCH + b"R",
    "STACK_GLOBAL": b"X\x02\x00\x00\x00osX\x05\x00\x00\x00mkdir\x93(X\x05\x00\x00\x00pwnedtR",
    "INST": b"(X\x05\x00\x00\x00pwnedios\nmkdir\n",
    "OBJ": b"(" + MKDIR + b"X\x05\x00\x00\x00pwnedo",
    "NEWOBJ": TOUCH + b"\x81",
    "NEWOBJ_EX": TOUCH + b"}\x92",
    "BUILD": b"cnotbugs.errors\nmust\n)\x81" + TOUCH + b"Rb",
    "BUILD of a class": b"cos\npath\n}X\x05\x00\x00\x00mkdirNsb",
    "eval": b"cbuiltins\neval\n(X\x1f\x00\x00\x00__import__('os').mkdir('pwned')tR",
    "getattr": b"cbuiltins\ngetattr\n(cos\npath\nX\x05\x00\x00\x00mkdirtR(X\x05\x00\x00\x00pwnedtR",
    "a tensor's constructor": b"ctorch._tensor\n_rebuild_from_type_v2\n(" + MKDIR + b"NX\x05\x00\x00\x00pwned\x85NtR",
    "a parameter's data": b"ctorch._utils\n_rebuild_parameter\n(" + TOUCH + b"R\x89NtR",
    "torch.load within": b"ctorch\nload\n(X\x05\x00\x00\x00pwnedtR",
    "extension": b"\x82\x01(X\x05\x00\x00\x00pwnedtR",
}


@pytest.mark.parametrize("trick", RUNS)
def test_nothing_runs(trick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = saved(tmp_path / "evil.pt", entry(RUNS[trick], b"extra"), FINE, BIAS)
    assert load_weights(network(), file).weight.tolist() == [[1, 2], [3, 4]]
    (tmp_path / "evil.pkl").write_bytes(b"\x80\x02}" + entry(RUNS[trick]) + b".")
    with pytest.raises(InputError, match="no tensors"):
        load_weights(network(), tmp_path / "evil.pkl")
    assert not (tmp_path / MARKER).exists()


def test_the_tricks_are_real(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for trick in ("REDUCE", "STACK_GLOBAL", "INST", "OBJ", "eval"):
        pickle.loads(b"\x80\x02}" + entry(RUNS[trick]) + b".")  # noqa: S301
        (tmp_path / MARKER).rmdir()


def laughs(levels: int, width: int) -> bytes:
    """Lists of lists, each one referred to `width` times: the opcodes of `levels`, and their values are more."""
    made = b"]q\x00"
    for level in range(1, levels):
        made += b"](" + b"h" + bytes([level - 1])
        made += (b"h" + bytes([level - 1])) * (width - 1) + b"eq" + bytes([level])
    return made


DAMAGED = {
    "a storage outside": entry(tensor(b"K\x02K\x02", b"K\x02K\x01", key=b"../../../etc/passwd")),
    "a storage that is not there": entry(tensor(b"K\x02K\x02", b"K\x02K\x01", key=b"7")),
    "an unknown storage": entry(tensor(b"K\x02K\x02", b"K\x02K\x01", kind=b"EvilStorage")),
    "beyond the storage": entry(tensor(b"K\x02K\x03", b"K\x02K\x01")),
    "an offset beyond it": entry(tensor(b"K\x02K\x02", b"K\x02K\x01", b"J\xff\xff\xff\x7f")),
    "a negative offset": entry(tensor(b"K\x02K\x02", b"K\x02K\x01", b"J\xff\xff\xff\xff")),
    "negative strides": entry(tensor(b"K\x02K\x02", b"J\xfe\xff\xff\xffK\x01")),
    "sizes that overflow": entry(
        tensor(b"\x8a\x08" + b"\xff" * 7 + b"\x3f" + b"\x8a\x08" + b"\xff" * 7 + b"\x3f", b"K\x01K\x01")
    ),
    "a size of text": entry(tensor(b"X\x01\x00\x00\x00aK\x02", b"K\x02K\x01")),
    "a shape of another length": entry(tensor(b"K\x02K\x02", b"K\x02")),
    "numbers that do not fit": entry(tensor(b"K\x02K\x02", b"K\x02K\x01", kind=b"ComplexDoubleStorage")),
    "a persistent id of a list": entry(b"]Q"),
    "a memo that is not there": entry(b"h\x09"),
    "a mark that is not there": entry(b"t"),
    "too few values": b"s",
    "bytes beyond the end": entry(b"\x8e" + b"\xff" * 7 + b"\x7f"),
    "a number beyond the end": entry(b"\x8b\xff\xff\xff\x7f"),
    "text beyond the end": entry(b"X\xff\xff\xff\xffabc"),
    "buffers elsewhere": entry(b"\x97"),
    "an entry of a number": entry(b"K\x01K\x02K\x03s"),
    "billion laughs": entry(laughs(30, 90)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_line(name, tmp_path):
    before = network()
    file = saved(tmp_path / "evil.pt", FINE, BIAS, DAMAGED[name])
    with pytest.raises(InputError, match=r"evil\.pt cannot be read: ") as caught:
        load_weights(before, file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_what_refers_to_itself_and_what_is_deep_is_passed_over(tmp_path):
    circle = entry(b"}q\x01" + entry(b"h\x01", b"me"), b"circle")
    deep = entry(b"]" * 3_000 + b"a" * 2_999, b"deep")
    tuples = entry(b")" + b"\x85" * 3_000, b"tuples")
    keys = b")" + b"\x85" * 3_000 + b"K\x01s"
    weight = load_weights(network(), saved(tmp_path / "odd.pt", circle, deep, tuples, keys, FINE, BIAS)).weight
    assert weight.tolist() == [[1, 2], [3, 4]]


def test_a_tensor_of_one_number_and_any_size_takes_no_memory(tmp_path):
    vast = tensor(b"\x8a\x06" + b"\xff" * 5 + b"\x0f", b"K\x00")
    file = saved(tmp_path / "vast.pt", entry(vast, b"extra"), entry(b"}" + FINE + BIAS, b"net"))
    assert load_weights(network(), file).weight.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(InputError, match="Of another shape: weight"):
        load_weights(network(), saved(tmp_path / "vast.pt", entry(vast), BIAS))


def test_no_file_is_read_outside_the_archive_and_no_record_is_unpacked(tmp_path):
    file = tmp_path / "zipped.pt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}" + FINE + BIAS + b".")
        archive.writestr("a/data/0", bytes(10**6))
        archive.writestr("../../escaped", b"x")
    with pytest.raises(InputError, match="compressed or encrypted"):
        load_weights(network(), file)
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize("zipped", [True, False])
def test_accidents_are_found_out(zipped, tmp_path):
    """Every cut, and of a file with checksums every flipped bit in its numbers, names and opcodes."""
    buffer = io.BytesIO()
    torch.save(network().state_dict(), buffer, _use_new_zipfile_serialization=zipped)
    whole, file = buffer.getvalue(), tmp_path / "cut.pt"
    for end in range(1, len(whole) - 22, 37):
        file.write_bytes(whole[:end])
        with pytest.raises(InputError):
            load_weights(network(), file)
    wanted = load_weights(network(), _written(file, whole)).state_dict()
    for place in range(0, len(whole), 11):
        flipped = bytearray(whole)
        flipped[place] ^= 0x10
        try:
            found = load_weights(network(), _written(file, bytes(flipped))).state_dict()
        except InputError:
            continue
        assert not zipped or all(torch.equal(found[name], value) for name, value in wanted.items())


def _written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file
