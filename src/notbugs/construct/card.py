"""The dataset card of an export, with front matter for the Hub; how to load it, and a loader that checks it."""

from __future__ import annotations

import json
from typing import Any, Literal, TypedDict

from notbugs.construct.manifest import Manifest, Request, Span, ball_text, image_count, kind_of, number, span


class ImageFeature(TypedDict):
    """A column of pictures, as `datasets` describes it."""

    _type: Literal["Image"]


class ValueFeature(TypedDict):
    """A column of numbers."""

    _type: Literal["Value"]
    dtype: str


class ArrayFeature(TypedDict):
    """A column of images as they are stored."""

    _type: Literal["Array3D"]
    shape: list[int]
    dtype: str


class LabelFeature(TypedDict):
    """A column of labels."""

    _type: Literal["ClassLabel"]
    names: list[str]


Feature = ImageFeature | ValueFeature | ArrayFeature | LabelFeature
Features = dict[str, Feature]

SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))

LOAD = {
    "imagefolder": """\
from torchvision.datasets import ImageFolder

data = ImageFolder("FOLDER/train")  # PIL images, rounded to 8 bits; rows.csv has start, target and loss

from datasets import load_dataset

data = load_dataset("FOLDER", split="train")""",
    "parquet": """\
from datasets import load_dataset

data = load_dataset("FOLDER", split="train")  # data[0]["pixels"] is exact, data[0]["image"] is rounded to 8 bits""",
    "hub-folder": """\
from datasets import load_dataset

data = load_dataset("FOLDER", split="train")  # data[0]["pixels"] is exact, data[0]["image"] is rounded to 8 bits

# The same, after checking every file against SHA256SUMS, in this folder:

from load_checked import data""",
    "npz": """\
import numpy as np

file = np.load("FOLDER/data.npz", allow_pickle=False)
images, labels = file["train_images"], file["train_labels"][:, 0]""",
}

LOADER_TEXT = '''\
"""Loads the set that lies beside this file, after checking that every file is as it was written."""

from hashlib import sha256
from pathlib import Path

from datasets import load_dataset

here = Path(__file__).parent
for digest, name in (line.split("  ", 1) for line in (here / "SHA256SUMS").read_text().splitlines()):
    if sha256((here / name).read_bytes()).hexdigest() != digest:
        raise SystemExit(f"{name} is not as it was written. Get the folder again.")
data = load_dataset(str(here), split="train")
'''

PIXELS = {
    "float32": "float32 in [0, 1]",
    "float16": "float16 in [0, 1]",
    "uint8": "uint8, 0 to 255",
}

STARTS = {
    "images": ("another training image, drawn at random,", "Every training image"),
    "gaussian": ("an image of Gaussian noise", "Every one of as many images of Gaussian noise"),
    "uniform": ("an image of uniform noise", "Every one of as many images of uniform noise"),
}
MATCHED = (
    "Every image was moved from {} until the source classifier's features were those of the target image, whose label "
    "it has (the paper, section 3.1)."
)
RELABELLED = (
    "{} was pushed towards a target class inside the threat model, and is labelled with that class (the paper, section "
    "3.2). Most labels are not those of the images they started from: that is the point."
)
PART = " Only some of the features were matched: the manifest has their numbers."
ALONE = " The search kept other classifiers at {} (Nakkiran, 2019)."
CONTROLS = {
    "leakage control": (
        "A control of a relabelled set: its labels on the training images. A fixed synthetic pattern of the label was "
        "added to each, except to those consistent with their label as they are. No image was searched."
    ),
    "random control": (
        "A control of a relabelled set: its labels on the training images, each moved at random as far as its "
        "adversarial one. No image was searched."
    ),
    "labels control": "A control of a relabelled set: its labels on the training images, untouched.",
    "mislabelled by the source": (
        "The training images that the source classifier gets wrong, untouched, labelled with what it predicts."
    ),
}

TITLES = {"matched": "matched", "relabelled": "relabelled", "control": "a control"}

CITATION = """\
```bibtex
@inproceedings{{ilyas2019adversarial,
  title     = {{Adversarial Examples Are Not Bugs, They Are Features}},
  author    = {{Ilyas, Andrew and Santurkar, Shibani and Tsipras, Dimitris and Engstrom, Logan and Tran, Brandon and
               Madry, Aleksander}},
  booktitle = {{Advances in Neural Information Processing Systems 32}},
  year      = {{2019}},
  url       = {{https://arxiv.org/abs/1905.02175}}
}}

@software{{notbugs,
  title   = {{notbugs: a laboratory for robust and non-robust features}},
  author  = {{{{The notbugs founders}}}},
  version = {{{version}}}
}}
```"""


def card(
    manifest: Manifest,
    format: str,
    features: Features,
    lost: Span | None,
    license: str | None = None,
) -> str:
    """The text of `README.md`.

    Parameters
    ----------
    manifest : dict
        Of the set.
    format : str
        Of the export.
    features : dict
        The columns as `datasets` describes them; empty where it reads none.
    lost : dict, optional
        Mean and largest l2 distance between the pictures and the images as stored.
    license : str, optional
        Of the source data, by the Hub's name.
    """
    request = manifest["request"]
    data, count = request["data"], image_count(request)
    title = f"{_plain(data['name'])}, {TITLES[kind_of(request)]} by notbugs"
    sections = [
        _front_matter(manifest, format, features, title, license),
        f"# {title}",
        f"{_what(request)} The labels are those to train with. {count} images of shape {tuple(data['shape'])}.",
        f"## Load it\n\n```python\n{LOAD[format]}\n```",
        "## How it was made\n\n" + _list(_making(request)),
        "## Measured\n\nDistances in pixel units, pixels in [0, 1].\n\n" + _measured(manifest, lost),
        f"## Licence\n\n{license or 'That'}{', that' if license else ''} of {_plain(data['name'])}, which every image "
        "was made from.",
        "## Citation\n\n" + CITATION.format(version=request["versions"]["notbugs"]),
        "## Manifest\n\n```json\n" + json.dumps(_without_seconds(manifest), indent=2) + "\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _without_seconds(values: Any) -> Any:
    """The manifest without how long it took: the card of the same images has the same bytes."""
    if isinstance(values, dict):
        return {name: _without_seconds(value) for name, value in values.items() if name != "seconds"}
    return [_without_seconds(value) for value in values] if isinstance(values, list) else values


def _what(request: Request) -> str:
    """What was done to the images, in a sentence or two."""
    moved_from, pushed = STARTS[request.get("start", "images")]
    if (kind := kind_of(request)) == "control":
        return CONTROLS[request["objective"]]
    if kind == "matched":
        return MATCHED.format(moved_from) + (PART if "features" in request else "")
    kept = "their outputs at the start" if "hold" in request else "the label of the start"
    return RELABELLED.format(pushed) + (ALONE.format(kept) if "others" in request else "")


def licence_line(license: str | None) -> str:
    """Of the front matter."""
    return f"license: {license or 'other'}"


def _front_matter(manifest: Manifest, format: str, features: Features, title: str, license: str | None) -> str:
    """YAML, with every string that is not ours in quotes."""
    count = image_count(manifest["request"])
    size = next((name for limit, name in SIZES if count < limit), "n>10M")
    lines = ["---", f"pretty_name: {quoted(title)}", licence_line(license)]
    lines += [] if license else ["license_name: that-of-the-source-data"]
    lines += ["task_categories:", "- image-classification", "tags:", "- notbugs", "- adversarial-robustness"]
    lines += ["size_categories:", f"- {size}"]
    if features:
        path = "train/**" if format == "imagefolder" else "data/train-*.parquet"
        lines += ["configs:", "- config_name: default", "  data_files:", "  - split: train", f"    path: {path}"]
        lines += ["dataset_info:", "  features:"]
        lines += [line for name, kind in features.items() for line in _feature(name, kind)]
    else:
        lines.append("viewer: false")
    return "\n".join([*lines, "---"])


def _feature(name: str, kind: Feature) -> list[str]:
    """One column in the words of the Hub's front matter."""
    head = f"  - name: {name}"
    if kind["_type"] == "Image":
        return [head, "    dtype: image"]
    if kind["_type"] == "Value":
        return [head, f"    dtype: {kind['dtype']}"]
    if kind["_type"] == "Array3D":
        array = ["      array3_d:", f"        shape: {kind['shape']}", f"        dtype: {kind['dtype']}"]
        return [head, "    dtype:", *array]
    names = [f"          '{place}': {quoted(label)}" for place, label in enumerate(kind["names"])]
    return [head, "    dtype:", "      class_label:", "        names:", *names]


def _making(request: Request) -> dict[str, str]:
    return {
        "data": f"{_plain(request['data']['name'])}, fingerprint `{request['data']['fingerprint']}`",
        "source classifier": f"weights with the hash `{request['source']}`",
        "objective": f"{request['objective']}, targets: {request['targets'] or 'images'}",
        "threat model": f"{text} in pixel units" if (text := ball_text(request["threat"])) != "free" else text,
        "schedule": ", ".join(f"{name} {value}" for name, value in request["schedule"].items()),
        "seed": str(request["seed"]),
        "stored as": PIXELS[request["dtype"]],
        "versions": ", ".join(f"{name} {version}" for name, version in request["versions"].items()),
    }


def _measured(manifest: Manifest, lost: Span | None) -> str:
    storage = manifest["storage"]
    assert storage is not None  # the set is finished
    properties = manifest.get("properties") or {}
    rows = {
        "success on the source, as found": number(storage["success_found"]),
        "success on the source, as stored": number(storage["success_stored"]),
        "mean loss, as found": number(storage["loss_found"]),
        "mean loss, as stored": number(storage["loss_stored"]),
        "l2 distance to the start, as stored": span(storage["l2_norm"]),
        "l2 distance to the start, rounded to 8 bits": span(storage["l2_norm_8bit"]),
        "l2 error of storing": span(storage["l2_error"]),
        "l-inf distance to the start, as stored": span(storage["linf_norm"]),
        "l-inf distance to the start, rounded to 8 bits": span(storage["linf_norm_8bit"]),
        "l-inf error of storing": span(storage["linf_error"]),
    }
    if lost is not None:
        rows["l2 error of the pictures here"] = span(lost)
    for name in ("success_independent", "rises_independent", "success_8bit", "success_augmented", "kept_label"):
        if share := properties.get(name):
            rows[name.replace("_", " ")] = f"{share['value']:.4g} [{share['low']:.4g}, {share['high']:.4g}]"
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _list(rows: dict[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in rows.items())


def _plain(name: str) -> str:
    """A name on one line, without what Markdown or HTML would take for markup."""
    return "".join(c if c.isalnum() or c in " .,()-" else "_" for c in name)


def quoted(text: str) -> str:
    """A YAML string of any text."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text) + '"'
