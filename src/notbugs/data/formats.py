"""What a file is, by its first bytes: a suffix decides nothing."""

from __future__ import annotations

from pathlib import Path

FIRST_BYTES = 160
IMAGES = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WebP", "PPM")
UNREAD = ("HEIC or AVIF", "JPEG 2000", "JPEG XL", "DICOM", "NIfTI")
"""Images that nothing here reads: to pass over them would lose data."""

_BEGIN = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"PK\x03\x04", "npz"),
    (b"PK\x05\x06", "npz"),
    (b"PAR1", "parquet"),
    (b"\x93NUMPY", "npy"),
    (b"\x1f\x8b", "gzip"),
    (b"MATLAB 5.0", "mat"),
    (b"MATLAB 7.3", "HDF5"),
    (b"\x89HDF", "HDF5"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\\\x01\0\0", "NIfTI"),
    (b"version https://git-lfs", "Git LFS pointer"),
    (b"/annex/objects/", "git-annex pointer"),
    (b"%PDF", "PDF"),
)
_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")


def format_of(head: bytes) -> str:
    """The format of a file that begins with `head`, of which `FIRST_BYTES` are enough; "" where it is not known."""
    if not head:
        return "empty"
    for begin, name in _BEGIN:
        if head.startswith(begin):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp" and head[8:12] in _BRANDS:
        return "HEIC or AVIF"
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "PPM"
    if head[:3] == b"\0\0\x08" and 1 <= head[3] <= 4:
        return "idx"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "web page" if start.startswith((b"<!doctype html", b"<html", b"<head")) else ""


def file_format(file: Path) -> str:
    """The format of a file.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    with file.open("rb") as stream:
        return format_of(stream.read(FIRST_BYTES))


def in_words(name: str) -> str:
    """What a file that is no image is, to a reader: "a web page, not an image; ..."."""
    known = {
        "empty": "is empty",
        "web page": "is a web page, as servers answer in place of a file: download it again",
        "Git LFS pointer": "is a Git LFS pointer, not the file itself: run `git lfs pull` where it was cloned",
        "git-annex pointer": "is a git-annex pointer, not the file itself: run `git annex get` where it was cloned",
    }
    return known.get(name) or (f"is a file of the format {name}" if name else "")
