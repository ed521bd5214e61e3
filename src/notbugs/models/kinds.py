"""What a file is, by its first bytes: its name may say anything."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from notbugs.errors import InputError, in_one_line, nearest_path

Kind = Literal["safetensors", "zip", "pickle", "torchscript", "exported"]
"""Tensors alone; what `torch.save` writes, now and before torch 1.6; a program of `torch.jit` or `torch.export`."""

DOWNLOAD = "Download the file itself: a whole one begins with other bytes."
SAVE = "Save the network's state_dict() with torch.save, or as safetensors, and give that file."
OTHERS: list[tuple[int, bytes, str, str]] = [
    (0, b"version https://git-lfs", "a Git-LFS pointer, not the weights", "Fetch them: git lfs pull."),
    (0, b"\x89HDF", "an HDF5 file, of Keras or h5py", SAVE),
    (0, b"\x1f\x8b", "compressed with gzip", "Unpack it: gunzip or tar -xf."),
    (0, b"\xfd7zXZ", "compressed with xz", "Unpack it: unxz or tar -xf."),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "Unpack it: unzstd."),
    (0, b"7z\xbc\xaf", "a 7z archive", "Unpack it, and give the file of weights inside."),
    (0, b"Rar!", "a RAR archive", "Unpack it, and give the file of weights inside."),
    (257, b"ustar", "a tar archive", "Unpack it (tar -xf), and give the file of weights inside."),
    (0, b"\x93NUMPY", "one NumPy array", SAVE),
    (0, b"GGUF", "a GGUF file", SAVE),
    (0, b"{", "JSON text, an index or an error message", DOWNLOAD),
    (0, b"<", "a web page", f"The server sent it in place of the file. {DOWNLOAD}"),
]
"""Where a known beginning stands, what such a file is, and what to do."""


def kind_of(path: Path) -> Kind:
    """Which of the files of weights `path` is.

    Raises
    ------
    InputError
        If there is no such file, or it is none of them; with what it is, where its beginning is known.
    """
    if not path.is_file():
        raise InputError(
            f"There is no file {path}.{nearest_path(path)}" if not path.is_dir() else f"{path} is a folder, not a file."
        )
    with path.open("rb") as file:
        head = file.read(512)
    if head[:4] == b"PK\x03\x04":
        return _of_zip(path)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "pickle"
    if head[8:9] == b"{":
        return "safetensors"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for place, beginning, what, remedy in OTHERS:
        if (head[place:] if place else start).startswith(beginning):
            raise InputError(f"{path} is {what}. {remedy}")
    if not head.strip(b"\0"):
        what = "empty" if not head else "full of zeros: a download or a copy that never ended"
        raise InputError(f"{path} is {what}. {DOWNLOAD}")
    raise InputError(
        f"{path} is no file of weights that notbugs can read: it begins with {head[:8].hex(' ')}. "
        "It reads safetensors, and what torch.save writes, by any name."
    )


def _of_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()} | set(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise InputError(f"{path} is cut off or damaged ({in_one_line(error)}). Download or copy it again.") from error
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return "torchscript"
    if "archive_format" in names or "serialized_exported_program.json" in names:
        return "exported"
    if "data.pkl" in names:
        return "zip"
    if any(name.endswith(".npy") for name in names):
        raise InputError(f"{path} is an npz file of NumPy arrays. {SAVE}")
    raise InputError(f"{path} is a zip archive that torch.save did not write. Unpack it, and give what is inside.")
