"""The Hub, offline: what is in the cache of `datasets` is read, and nothing else is pretended."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("datasets")

SCRIPT = """
import io, json, pathlib, sys, warnings
warnings.simplefilter("error")
import datasets, numpy
from datasets.packaged_modules.parquet.parquet import Parquet
from PIL import Image
from notbugs.data import load
from notbugs.errors import InputError

root = pathlib.Path(sys.argv[1])
datasets.disable_progress_bars()

def png(value):
    file = io.BytesIO()
    Image.fromarray(numpy.full((4, 4), value, numpy.uint8)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}

def as_if_loaded_before(name, image, label, splits):
    features = datasets.Features({image: datasets.Image(), label: datasets.ClassLabel(names=["cat", "dog"])})
    for split, count in splits.items():
        rows = {image: [png(28 * value) for value in range(count)], label: [value % 2 for value in range(count)]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(root / f"{name}-{split}.parquet")
    files = {split: [str(root / f"{name}-{split}.parquet")] for split in splits}
    builder = Parquet(dataset_name=name, hash="0" * 40, data_files=files, cache_dir=str(root / "hf" / "datasets"))
    builder.download_and_prepare()
    home = root / "hf" / "datasets"
    (home / name).rename(home / f"someone___{name}")
    config = next((home / f"someone___{name}").iterdir())
    config.rename(config.with_name("default"))

as_if_loaded_before("pets", "image", "label", {"train": 6, "test": 4})
as_if_loaded_before("scans", "scan", "finding", {"train": 10})
as_if_loaded_before("untrained", "image", "label", {"test": 4})

def tried(source, **options):
    try:
        data = load(source, **options)
    except InputError as error:
        return str(error)
    pixels = [(split.pixels[slice(0, None)][:, 0, 0, 0] // 28).tolist() for split in (data.train, data.test)]
    return [data.title, data.classes, data.test_name, *pixels, data.train.labels.tolist(), data.fingerprint]

(root / "local" / "set").mkdir(parents=True)
print(json.dumps({
    "pets": tried("hub:someone/pets"),
    "pets on disk": tried("hub:someone/pets", memory=1),
    "default": tried("hub:someone/pets/default"),
    "other": tried("hub:someone/pets/other"),
    "scans": tried("hub:someone/scans"),
    "untrained": tried("hub:someone/untrained"),
    "missing": tried("hub:someone/dogs"),
    "form": tried("hub:mnist"),
    "hidden": tried("hub:local/set"),
}))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Of a process of its own: `datasets` reads its settings once."""
    root = tmp_path_factory.mktemp("hub")
    settings = {"HF_HOME": str(root / "hf"), "HF_HUB_OFFLINE": "1", "NOTBUGS_CACHE": str(root / "cache")}
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root)],
        cwd=root,
        env=os.environ | settings | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def test_what_was_loaded_before_is_read_offline(answers):
    expected = ["pets", ["cat", "dog"], "test", [0, 1, 2, 3, 4, 5], [0, 1, 2, 3], [0, 1, 0, 1, 0, 1]]
    assert answers["pets"][:6] == expected
    assert answers["pets on disk"] == answers["default"] == answers["pets"]


def test_columns_by_type_and_a_share_held_out(answers):
    name, classes, test_name, train, test, *_ = answers["scans"]
    assert (name, classes, test_name) == ("scans", ["cat", "dog"], "heldout")
    assert (sorted(train + test), len(test)) == (list(range(10)), 2)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing", "hub:someone/dogs cannot be loaded"),
        ("missing", "without a connection, only what was loaded before is there"),
        ("other", "Available configs in the cache: ['default']"),
        ("untrained", "must have a split named train. It has test."),
        ("form", "Name a data set of the Hub as hub:OWNER/NAME or hub:OWNER/NAME/CONFIG. Got 'hub:mnist'"),
        ("hidden", "A folder local/set here hides hub:local/set"),
    ],
)
def test_what_is_not_there_is_said(answers, case, words):
    assert words in answers[case]
    assert "\n" not in answers[case]
