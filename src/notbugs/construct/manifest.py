"""What a set is, on disk: its manifest, what its shards are marked with, and their hashes. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypeVar, cast

from pydantic import ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from typing_extensions import TypedDict

from notbugs.errors import InputError
from notbugs.files import Damaged, read_json, sha256
from notbugs.records import adapter

SCHEMA = 2
Count = Annotated[int, Field(ge=1)]
Dtype = Literal["float32", "float16", "uint8"]


class _Strict(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # pyrefly: ignore


class Span(_Strict):
    """A distance over all images."""

    mean: Annotated[float, Field(description="over images")]
    max: Annotated[float, Field(description="the largest")]


class Storage(_Strict):
    """What storing did. *Found* is what the search ended with, *stored* what a reader gets back, *8bit* an 8-bit file.

    Distances in pixel units, per image: *error* from found to stored, *norm* from the start to stored.
    """

    l2_error: Annotated[Span, Field(description="what storing changed, l2")]
    linf_error: Annotated[Span, Field(description="the same, l-inf")]
    l2_norm: Annotated[Span, Field(description="of the stored perturbation, from the start")]
    linf_norm: Annotated[Span, Field(description="the same, l-inf")]
    l2_norm_8bit: Annotated[Span, Field(description="of the perturbation, if stored as 8-bit files")]
    linf_norm_8bit: Annotated[Span, Field(description="the same, l-inf")]
    success_found: Annotated[float, Field(description="share that the source classifies as the new label, as found")]
    success_stored: Annotated[float, Field(description="the same, as stored")]
    loss_found: Annotated[float | None, Field(description="mean matching loss, as found; null for relabelled sets")]
    loss_stored: Annotated[float | None, Field(description="the same, as stored")]


class ShardFile(_Strict):
    """The file of one finished shard."""

    file: Annotated[str, Field(description="in the set's folder")]
    images: Annotated[Count, Field(description="how many")]
    bytes: Annotated[int, Field(description="size of the file")]
    sha256: Annotated[str, Field(description="of the file")]


class Entry(ShardFile):
    """One finished shard."""

    seconds: Annotated[float, Field(description="how long it took")]
    storage: Annotated[Storage, Field(description="what rounding changed in this shard")]


class Source(_Strict):
    """The data a set was built from."""

    name: Annotated[str, Field(description="its name")]
    fingerprint: Annotated[str, Field(description="hash of pixels and labels")]
    images: Annotated[Count, Field(description="how many")]
    shape: Annotated[list[Count], Field(min_length=3, max_length=3, description="channel, height, width")]


class Kept(_Strict):
    """A band of frequencies, in cycles per image."""

    side: Annotated[Literal["low", "high"], Field(description="which frequencies the perturbation may have")]
    cutoff: Annotated[float, Field(description="cycles per image")]


class Ball(_Strict):
    """The threat model; `eps` is null where the search was free."""

    norm: Annotated[Literal["l2", "linf"], Field(description="of the threat")]
    eps: Annotated[float | None, Field(description="radius, pixel units; null: no limit")]
    band: NotRequired[Annotated[Kept, Field(description="frequencies to which the perturbation is confined")]]


class Identity(TypedDict):
    """The part of a request that says which images a set is built from, and by which versions."""

    data: Source
    classes: list[str]
    versions: dict[str, str]


class ByWhom(TypedDict):
    """The part of a request that says what the source computes."""

    source: str
    code: NotRequired[str]
    outputs: NotRequired[list[int]]


class Sizes(TypedDict):
    """The part of a request that says how images are stored, and how many at once."""

    dtype: Dtype
    batch: int
    shard_images: int


class Request(_Strict):
    """Everything that decides the bits of a set, and where it comes from."""

    objective: Annotated[str, Field(description="of the search")]
    targets: Annotated[
        Literal["any", "other", "next", "predicted"] | None,
        Field(description="rule of the new labels; null: feature matching"),
    ]
    start: NotRequired[
        Annotated[
            Literal["gaussian", "uniform"],
            Field(description="noise from which searches start, if not from the images"),
        ]
    ]
    fake_relu: NotRequired[
        Annotated[Literal[True] | str, Field(description="whether gradients passed the last ReLU, and which")]
    ]
    others: NotRequired[
        Annotated[list[str], Field(description="fingerprints of the classifiers that keep their answer")]
    ]
    hold: NotRequired[
        Annotated[Literal["outputs"], Field(description="that those are held at all their outputs; else at the label")]
    ]
    features: NotRequired[Annotated[list[int], Field(description="numbers of the features that were matched")]]
    images: NotRequired[
        Annotated[Count, Field(description="of the set, where it has not one for every training image")]
    ]
    of: NotRequired[Annotated[str, Field(description="fingerprint of the set that a control is of")]]
    weak: NotRequired[Annotated[str, Field(description="fingerprint of the weak classifier of a leakage control")]]
    threat: Annotated[Ball, Field(description="the ball around the start")]
    schedule: Annotated[dict[str, Any], Field(description="kind and settings of the steps")]
    seed: Annotated[int, Field(description="of all that is random here")]
    source: Annotated[str, Field(description="fingerprint of the classifier")]
    code: NotRequired[
        Annotated[str, Field(description="hash of the code of classifiers that are a user's own, or of their programs")]
    ]
    outputs: NotRequired[
        Annotated[list[int], Field(description="numbers of the source's outputs that are the classes, if not all")]
    ]
    precision: Annotated[str, Field(description="form in which the search computed: fp32, bf16, and whether compiled")]
    data: Annotated[Source, Field(description="the images it was built from")]
    classes: Annotated[list[str], Field(description="their names, in order")]
    dtype: Annotated[Dtype, Field(description="of the stored images")]
    batch: Annotated[Count, Field(description="images searched at once")]
    shard_images: Annotated[Count, Field(description="images of a shard")]
    versions: Annotated[dict[str, str], Field(description="of notbugs, Python, torch and the other libraries")]


class Manifest(_Strict):
    """The whole of it."""

    schema: Annotated[Literal[2], Field(description="version of this form")]
    status: Annotated[Literal["building", "complete"], Field(description="`complete` once every shard is there")]
    request: Annotated[Request, Field(description="what the set was asked to be; its hash names the build")]
    shards: Annotated[list[Entry], Field(description="files of images, in order")]
    storage: Annotated[Storage | None, Field(description="what rounding to the stored type changed, over all shards")]
    seconds: Annotated[float, Field(description="how long the build took")]
    properties: NotRequired[
        Annotated[dict[str, Any], Field(description="what was measured of the set, if anything was")]
    ]


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in `folder`, or None if there is none.

    Raises
    ------
    InputError
        If it cannot be read, is of another schema, or misses something.
    Damaged
        If it was changed since it was written.

    Examples
    --------
    >>> from pathlib import Path
    >>> small = data.take(20, 20, seed=0)
    >>> built = nb.relabel(classifier, small, 'set', targets='next', threat=nb.L2(0.5), schedule=nb.search.PGDSteps(2))
    >>> nb.construct.read_manifest(Path('set'))['request']['targets']
    'next'
    """
    path = Path(folder) / "manifest.json"
    try:
        manifest = read_json(path)
    except FileNotFoundError:
        return None
    except Damaged as error:
        raise Damaged(f"{error} Build the set again to repair it.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if (schema := manifest.get("schema")) != SCHEMA:
        raise InputError(
            f"{path} must have schema {SCHEMA}. Got {schema!r} instead: another version of notbugs wrote it. "
            "Build the set again in another folder."
        )
    return _checked(manifest, Manifest, path)


def read_entry(path: Path) -> Entry | None:
    """The entry of a finished shard, or None if there is none that can be read."""
    try:
        return _checked(read_json(path), Entry, path)
    except (ValueError, OSError):
        return None


def build_id(request: Request) -> str:
    """A short hash of a request: what shards of one build have in common."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]


def image_count(request: Request) -> int:
    """How many images a set has: as many as its data, unless it says otherwise."""
    return request.get("images", request["data"]["images"])


def kind_of(request: Request) -> Literal["matched", "relabelled", "control"]:
    """What a set is: a control is one for which nothing was searched."""
    if request["schedule"]["kind"] == "none":
        return "control"
    return "matched" if request["targets"] is None else "relabelled"


def ball_text(ball: Ball) -> str:
    """The threat model in words: `l2 0.5`, `free`, `l2 0.5, frequencies up to 8 cycles per image`."""
    text = "free" if ball["eps"] is None else f"{ball['norm']} {ball['eps']:g}"
    if "band" not in ball:
        return text
    band = ball["band"]
    return f"{text}, frequencies {'up to' if band['side'] == 'low' else 'above'} {band['cutoff']:g} cycles per image"


def span(distance: Span) -> str:
    """A distance over all images in words."""
    return f"mean {distance['mean']:.4g}, largest {distance['max']:.4g}"


def number(value: float | None) -> str:
    """A mean over all images in words: JSON has no number for an infinite one."""
    return "infinite" if value is None else f"{value:.4g}"


def shard_ranges(request: Request) -> list[tuple[int, int]]:
    """For every shard its first image and the one after its last."""
    count, size = image_count(request), request["shard_images"]
    return [(first, min(first + size, count)) for first in range(0, count, size)]


Made = TypeVar("Made")


def _checked(value: Any, shape: type[Made], path: Path) -> Made:
    """`value`, if it has the shape; an InputError otherwise."""
    try:
        adapter(shape).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{path} breaks a rule at {where!r}: {first['msg']}. Build the set again.") from error
    return value


COLUMNS = ("images", "labels", "start", "target", "loss")


def shard_file(number: int) -> str:
    """The name of a shard."""
    return f"shard-{number:05d}.safetensors"


def entry_file(number: int) -> str:
    """The name of what a worker writes beside a shard it has finished, until the manifest has it."""
    return f"shard-{number:05d}.json"


def known_entries(folder: Path, manifest: Manifest) -> dict[str, Entry]:
    """By file name, the entries of all shards finished so far: in the manifest, and beside the shards."""
    beside = (read_entry(path) for path in sorted(folder.glob("shard-*.json")))
    return {entry["file"]: entry for entry in (*manifest["shards"], *beside) if entry}


def fault(folder: Path, request: Request, number: int, entry: Entry | None) -> str:
    """What is wrong with the file of shard `number`; empty if it is as its entry says."""
    path = folder / shard_file(number)
    if entry is None or entry["file"] != path.name:
        return "is not finished"
    if not path.is_file():
        return "is missing"
    if path.resolve().parent != folder.resolve():
        return "is a link out of the folder"
    stamp, expected = read_mark(path), mark(request, number)
    if stamp not in (None, expected):
        return f"belongs to another build or place (marked {stamp!r}, not {expected!r})"
    if (size := path.stat().st_size) != entry["bytes"]:
        return f"is damaged ({size} bytes, not {entry['bytes']})"
    if sha256(path) != entry["sha256"]:
        return "is damaged (its bytes differ from their hash)"
    return "" if stamp else "is no readable safetensors file of notbugs"


def mark(request: Request, number: int) -> str:
    """What the file of shard `number` is marked with: its build and its place."""
    return f"build {build_id(request)} shard {number}"


def read_mark(path: Path) -> str | None:
    """What a file is marked with, "" where it has no mark; None if it cannot be read."""
    try:
        with safe_open(path, "np") as file:
            return (file.metadata() or {}).get("notbugs", "")
    except (SafetensorError, OSError):
        return None


def pooled(parts: Sequence[Storage], counts: Sequence[int]) -> Storage:
    """The summary of all images, from those of parts of `counts` images."""

    def mean(values: list[float | None]) -> float | None:
        if None in values:
            return None
        return sum(value * count for value, count in zip(values, counts, strict=True)) / sum(counts)  # pyrefly: ignore

    def pool(values: list[Any]) -> Any:
        if not isinstance(values[0], dict):
            return mean(values)
        return {"mean": mean([value["mean"] for value in values]), "max": max(value["max"] for value in values)}

    columns = [dict(part) for part in parts]
    return cast("Storage", {name: pool([column[name] for column in columns]) for name in columns[0]})
