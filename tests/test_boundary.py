"""Whatever goes wrong in a command ends in one line and an exit status; what cannot work is refused before work."""

from __future__ import annotations

import errno
import io
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

import notbugs
from notbugs import catalogue, load
from notbugs.__main__ import main
from notbugs.errors import InputError, must
from notbugs.study import Results

pytestmark = pytest.mark.whole


def said(capsys) -> str:
    """The only line on standard error."""
    text = capsys.readouterr().err
    assert text.startswith("notbugs: ")
    assert text.count("\n") == 1
    assert "Traceback" not in text
    assert "errors.pydantic.dev" not in text
    return text


LONG, DEEP = "a" * 300, "/".join("b" * 2500)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("run digits --seeds 1000000000", "'seeds' must be at most 1,000"),
        ("run digits --out o --matching.step-size 1e300", "matching.step_size must be at most 1,000,000,000"),
        ("run digits --out o --seed 99999999999999999999", "seed must be at most"),
        (f"run digits --name {LONG}", "at most 100 characters"),
        (f"run digits --out {LONG}", "'out' must be a path of at most 3500 bytes, with at most 255 in a name"),
        (f"run digits --out {DEEP}", "'out' must be a path of at most 3500 bytes"),
        ("run digits --out loop", "loop is a link that leads nowhere"),
        ("run digits --out loop/x", "loop is a link that leads nowhere"),
        ("run digits --out pipe", "pipe is a file"),
        ("theory --out=", "What stands after --out is empty"),
        (f"train --quiet --out {LONG}.safetensors", "a path of at most 3500 bytes"),
        ("train --quiet --out m.safetensors --shift 100000000", "'shift' must be below the 8 pixels"),
        ("train --quiet --out m.safetensors --arch.width 9000000", "must have at most 2,000,000,000 weights"),
        (
            "train --quiet --out m.safetensors --arch.width 10000000000000000000",
            "architecture.width must be at",
        ),
        ("train --quiet --out m.safetensors --arch.classes 3", "'classes' is no option"),
        ("train --quiet --out m.safetensors --device hpu", "'device' must be one that torch has here"),
        ("evaluate m.safetensors --quiet --autoattack --keep pipe", "'keep' must be a folder. pipe is a file"),
        ("export / --to npz --quiet", "There is no finished constructed set in /"),
        ("theory --out pipe", "'out' must be a folder"),
        ("run deep.toml", "deep.toml cannot be read: it is nested too deep"),
        ("run small.toml", "small.toml: small' must be a table"),
    ],
)
def test_what_cannot_work_is_refused_before_work(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "deep.toml").write_text(f"name = {'[' * 5000}{']' * 5000}")
    (tmp_path / "small.toml").write_text("small = 1")
    before = sorted(tmp_path.iterdir())
    assert main(arguments.split()) == 2
    assert words in said(capsys)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "words", [["run", "digits", "--out", ""], ["status", ""], ["train", "--data", "", "--out", "x"]]
)
def test_an_empty_argument_is_no_current_folder(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert f"What stands after {words[words.index('') - 1]} is empty." in said(capsys)
    assert not list(tmp_path.iterdir())


def invalid() -> None:
    Results.model_validate({})


def raising(error: BaseException):
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "status", "words"),
    [
        (invalid, 2, "The 'study' is wrong: Field required"),
        (raising(MemoryError()), 1, "There is not enough memory"),
        (raising(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")), 1, "not enough memory"),
        (raising(RecursionError("maximum recursion depth exceeded")), 2, "nested too deep"),
        (raising(OSError(errno.EMFILE, "Too many open files")), 1, "Too many files are open. Raise the limit"),
        (raising(OSError(errno.EFBIG, "File too large")), 1, "There is no room left, or a file may not be so large"),
        (raising(OSError(errno.ELOOP, "Too many levels of symbolic links", "x")), 1, "x: Too many levels"),
        (raising(StopIteration()), 1, "went wrong where it should not: StopIteration: no reason given"),
        (raising(OverflowError("int too large\nmore")), 1, "OverflowError: int too large. With NOTBUGS_TRACEBACK=1"),
        (raising(ValueError("x" * 9000)), 1, "ValueError: xxx"),
        (raising(KeyboardInterrupt()), 130, "Interrupted. Give the same command again to continue."),
    ],
)
def test_errors_of_libraries_do_not_come_through(monkeypatch, capsys, work, status, words):
    monkeypatch.setattr(catalogue, "table", work)
    assert main(["recipes"]) == status
    text = said(capsys)
    assert words in text
    assert len(text) < 2100


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "digits"], "to continue"),
        (["evaluate", "m", "--data", "digits"], "Nothing was kept: the same command begins again."),
        (["evaluate", "m", "--keep", "folder"], "to continue"),
        (["theory"], "Nothing was kept"),
        ([], "to continue"),
    ],
)
def test_what_is_said_of_an_interruption_is_true_of_the_command(monkeypatch, words, said):
    monkeypatch.setattr(sys, "argv", ["notbugs", *words])
    assert said in notbugs._start.stopped(signal.SIGINT)


@pytest.mark.parametrize("option", ["v", "d"])
@pytest.mark.parametrize("command", [["run", "digits"], ["report", "x"], ["figures", "x"], ["tune", "x"]])
def test_a_limit_of_memory_that_drawing_cannot_bear_is_said_before_work(monkeypatch, capsys, option, command):
    kind = {"v": resource.RLIMIT_AS, "d": resource.RLIMIT_DATA}[option]
    limits = {kind: (900 * 2**20, resource.RLIM_INFINITY)}
    monkeypatch.setattr(resource, "getrlimit", lambda one: limits.get(one, (resource.RLIM_INFINITY,) * 2))
    assert main(command) == 2
    text = said(capsys)
    assert f"The limit of memory (ulimit -{option} {900 * 2**10}) is below" in text
    assert "Raise it. Or draw elsewhere: `notbugs run --no-page`" in text


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_end_in_one_line(monkeypatch, capsys, name):
    number = getattr(signal, name)

    def interrupted() -> list[str]:
        signal.raise_signal(number)
        time.sleep(10)
        return []

    monkeypatch.setattr(catalogue, "table", interrupted)
    before = signal.signal(number, signal.SIG_DFL)  # whoever started the tests may have it ignored
    try:
        assert main(["recipes"]) == 128 + number
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert "Give the same command again to continue." in said(capsys)


EARLY = """
import sys
import signal
known = set(sys.modules)
import os
sys.argv = ["/usr/bin/notbugs"]
exec(open(os.environ["START"]).read())
print(*sorted(set(sys.modules) - known), flush=True)
signal.raise_signal(getattr(signal, os.environ["SIGNAL"]))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_are_heard_before_anything_else_is_imported(name):
    """Until the first line of notbugs has run, a signal ends in Python's own words; that line is not to wait."""
    number = getattr(signal, name)
    more = {"START": notbugs._start.__file__, "SIGNAL": name}
    command = [sys.executable, "-c", f"import signal; signal.signal(signal.{name}, signal.SIG_DFL){EARLY}"]
    done = subprocess.run(command, env=os.environ | more, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + number
    assert done.stderr.startswith("notbugs: ")
    assert done.stderr.endswith(". Give the same command again to continue.\n")
    assert not set(done.stdout.split()) & {"pathlib", "contextlib", "typing", "torch", "numpy", "dataclasses"}


IMPORTING = """
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["MODULE"]:
            signal.raise_signal(getattr(signal, os.environ["SIGNAL"]))
sys.meta_path.insert(0, Finder())
sys.argv = ["notbugs", "train", "--data", "digits", "--out", "never.safetensors"]
runpy.run_module("notbugs", run_name="__main__")
"""


@pytest.mark.parametrize(("name", "module"), [("SIGINT", "torch.nn"), ("SIGTERM", "torch._C")])
def test_signals_while_libraries_are_imported_end_in_one_line(tmp_path, name, module):
    """A library that is left half imported cannot be imported again in the same process."""
    more = {"MODULE": module, "SIGNAL": name}
    command = [sys.executable, "-c", f"import signal; signal.signal(signal.{name}, signal.SIG_DFL){IMPORTING}"]
    done = subprocess.run(command, env=os.environ | more, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + getattr(signal, name)
    assert done.stderr.startswith("notbugs: ")
    assert done.stderr.endswith(". Give the same command again to continue.\n")
    assert done.stderr.count("\n") == 1


def test_a_name_that_a_terminal_cannot_show(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(catalogue, "text", lambda name: "caf\udce9 \u00e9\n")
    assert main(["recipes", "digits"]) == 0
    assert out.buffer.getvalue() == b"caf\\udce9 \\xe9\n"


def archive(path, shape: tuple[int, ...], data: bytes = b"", flag: int = 0) -> None:
    """An npz file whose images say that they have `shape`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
        file.writestr("images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)
        labels = io.BytesIO()
        np.save(labels, np.arange(shape[0]) % 2)
        file.writestr("labels.npy", labels.getvalue())
    raw = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        place = -1
        while (place := raw.find(mark, place + 1)) >= 0:
            raw[place + at] |= flag
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("shape", "flag", "words"),
    [((4, 2**20, 2**20), 0, "images promises 4398.0 GB and holds"), ((4, 8, 8), 1, "is not a readable npz file")],
)
def test_archives_that_promise_too_much_or_are_locked(tmp_path, shape, flag, words):
    archive(tmp_path / "x.npz", shape, bytes(32), flag)
    with pytest.raises(InputError, match=words):
        load(tmp_path / "x.npz")


def test_a_class_that_is_no_text_is_spelt_out(tmp_path):
    from PIL import Image

    for number, name in enumerate((b"caf\xe9", b"tea")):
        folder = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
        os.mkdir(folder)
        for image in range(12):
            Image.new("L", (8, 8), 20 * image + number).save(os.path.join(folder, f"{image}.png"))
    assert load(tmp_path).classes == ("caf\\udce9", "tea")


def test_a_value_that_holds_itself_twice_is_told_at_once():
    twice: list[object] = []
    twice += [twice, twice]
    assert "nested too deep to show" in str(must("value", "be flat", twice))


def test_on_windows_it_says_what_to_do():
    code = "import sys; sys.platform = 'win32'; import notbugs"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: notbugs needs Unix's file locks")
    assert "WSL" in done.stderr
