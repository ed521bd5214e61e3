"""What is stored, and how it is read back."""

from __future__ import annotations

import copy
import json
import math
import multiprocessing

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

import notbugs as nb
from notbugs import construct, workers
from notbugs.classifier import Classifier
from notbugs.construct import ConstructedSet, builder, describe, relabel, robustify, storage, table
from notbugs.construct.manifest import read_manifest
from notbugs.construct.storage import read_columns
from notbugs.data import Data, Images, Mapped
from notbugs.errors import InputError
from notbugs.search import PGDSteps
from notbugs.seeds import generator, seeded
from notbugs.threat import L2, Linf, l2_norm

QUICK = PGDSteps(3, 0.1)
DTYPES = ("float32", "float16", "uint8")


@pytest.fixture(scope="module")
def data() -> Data:
    draw = generator(0, "store")
    images = Images(torch.rand(60, 3, 4, 4, generator=draw), torch.arange(60) % 3)
    return Data("random", images, images, ("a", "b", "c"))


@pytest.fixture(scope="module")
def source() -> Classifier:
    with seeded(3):
        return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 3))).eval()


@pytest.fixture(scope="module", params=DTYPES)
def stored(request, data, source, tmp_path_factory):
    """The same relabelled set in every type, and as it was found."""
    folder = tmp_path_factory.mktemp(request.param)
    found = relabel(source, data, folder / "found", targets="next", schedule=QUICK)
    return relabel(source, data, folder / "set", targets="next", schedule=QUICK, dtype=request.param), found


def test_the_loss_of_storing_is_what_the_manifest_says(stored, data, source):
    built, found = stored
    images, wanted = built.images.batch(slice(None))[0], found.images.pixels[:]
    error, moved, record = images - wanted, images - data.train.pixels, built.manifest["storage"]
    for name, values in (
        ("l2_error", l2_norm(error)),
        ("linf_error", error.flatten(1).abs().amax(1)),
        ("l2_norm", l2_norm(moved)),
        ("linf_norm", moved.flatten(1).abs().amax(1)),
        ("l2_norm_8bit", l2_norm(images.mul(255).round() / 255 - data.train.pixels)),
    ):
        assert record[name]["max"] == pytest.approx(float(values.max()), rel=1e-5, abs=1e-9)
        assert record[name]["mean"] == pytest.approx(float(values.mean()), rel=1e-5, abs=1e-9)
    for name, pixels in (("found", wanted), ("stored", images)):
        logits = source(pixels).detach()
        assert record[f"success_{name}"] == pytest.approx(
            float((logits.argmax(1) == built.images.labels).float().mean())
        )
        loss = nn.functional.cross_entropy(logits, built.images.labels, reduction="none")
        assert record[f"loss_{name}"] == pytest.approx(float(loss.mean()), rel=1e-5)
    torch.testing.assert_close(built.loss, loss)  # of the images as stored
    half = storage.HALF_STEP[built.manifest["request"]["dtype"]]
    assert record["linf_error"]["max"] <= half * (1 + 1e-4)
    assert (record["linf_error"]["max"] == 0) == (built.images.pixels.dtype == torch.float32)


def test_8_bits_are_rounded_not_cut_off():
    images = torch.tensor([0.0, 0.4, 0.6, 254.4, 254.6, 255.0]).view(1, 1, 1, 6) / 255
    assert storage.encode(images, "uint8").flatten().tolist() == [0, 0, 1, 254, 255, 255]


def test_a_matched_set_tells_its_loss_before_and_after_storing(data, source, tmp_path):
    schedule = PGDSteps(60, 0.2, momentum=0.8, decay="linear")
    built = robustify(source, data, tmp_path, schedule=schedule, dtype="uint8")
    record = built.manifest["storage"]
    assert record["loss_found"] < record["loss_stored"]
    with torch.no_grad():
        wanted = source.features(data.train.pixels)
        left = source.features(built.images.batch(slice(None))[0]) - wanted
    torch.testing.assert_close(built.loss, left.norm(dim=1) / wanted.norm(dim=1))


def test_an_infinite_loss_is_no_number_in_the_manifest(data, tmp_path):
    """All features of the target are 0, those of the image are not: the relative distance has no bound."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        network[1].weight.fill_(1e3)
        network[1].bias.fill_(-float((data.train.pixels.flatten(1).sum(1) * 1e3).median()))
    built = robustify(Classifier(network), data, tmp_path, schedule=PGDSteps(1, 1e-6))
    assert built.loss.isinf().any()
    assert built.manifest["storage"]["loss_stored"] is None
    assert not construct.verify(tmp_path)


def test_type_and_batch_are_part_of_the_request(stored, data, source):
    built, _ = stored
    other = next(dtype for dtype in DTYPES if dtype != built.manifest["request"]["dtype"])
    with pytest.raises(InputError, match="another request.*dtype"):
        relabel(source, data, built.folder, targets="next", schedule=QUICK, dtype=other)
    with pytest.raises(InputError, match="another request.*batch"):
        relabel(source, data, built.folder, targets="next", schedule=QUICK, batch=30)


def test_a_set_has_the_images_of_one_version(data, source, tmp_path, monkeypatch, caplog):
    """Begun by an older version and not finished, it is built again; finished, it is not touched."""
    how = {"targets": "next", "schedule": QUICK, "batch": 20}
    monkeypatch.setattr(storage, "SHARD_IMAGES", 20)
    done = []

    def killed(count: int, total: int, note: str = "") -> None:
        done.append(count)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relabel(source, data, tmp_path / "set", **how, progress=killed)
    assert (tmp_path / "set" / "shard-00000.json").exists()
    monkeypatch.setattr(builder, "__version__", "9.9.9")
    built = relabel(source, data, tmp_path / "set", **how)
    assert f"set was started with notbugs {nb.__version__}, torch" in caplog.text
    assert built.manifest["request"]["versions"]["notbugs"] == "9.9.9"
    again = relabel(source, data, tmp_path / "again", **how)
    assert [one["sha256"] for one in again.manifest["shards"]] == [one["sha256"] for one in built.manifest["shards"]]
    monkeypatch.setattr(builder, "__version__", "0.1.0")
    with pytest.raises(
        InputError, match="versions: there .*9.9.9.*Delete it to build it again, or name another folder"
    ):
        relabel(source, data, tmp_path / "set", **how)


def test_bad_type_and_batch(data, source, tmp_path, unchecked):
    with pytest.raises(InputError, match="'dtype' must be one of float32, float16, uint8.*Did you mean 'float16'"):
        relabel(source, data, tmp_path / "set", dtype="float61")  # pyrefly: ignore
    with pytest.raises(InputError, match="'batch' must be a whole number at or above 1"):
        robustify(source, data, tmp_path / "set", batch=0)
    assert not (tmp_path / "set").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="'folder' must be a folder"):
        relabel(source, data, tmp_path / "file", schedule=QUICK)


@pytest.mark.parametrize(
    ("shape", "batch", "expected"),
    [
        ((3, 32, 32), None, (250, 2000)),
        ((1, 8, 8), None, (250, 2000)),
        ((3, 224, 224), None, (27, 108)),
        ((3, 32, 32), 300, (300, 1800)),
        ((3, 32, 32), 5000, (5000, 5000)),
        ((3, 2000, 2000), None, (1, 1)),
    ],
)
def test_sizes_of_batches_and_shards(shape, batch, expected):
    found = storage.sizes(shape, "float32", batch)
    assert (found["batch"], found["shard_images"]) == expected
    assert found["shard_images"] % found["batch"] == 0


def test_a_set_is_a_torch_data_set(stored):
    built, _ = stored
    whole, labels = built.images.batch(slice(None))
    image, label = built[7]
    assert (image.dtype, label) == (torch.float32, int(labels[7]))
    assert torch.equal(image, whole[7])
    assert torch.equal(built[-1][0], whole[-1])
    with pytest.raises(IndexError):
        built[len(built)]
    batches = list(DataLoader(built, batch_size=16, num_workers=2))
    assert torch.equal(torch.cat([batch for batch, _ in batches]), whole)
    assert torch.equal(torch.cat([batch for _, batch in batches]), labels)
    assert isinstance(built.images.pixels, Mapped)


def test_a_set_travels_by_its_path(stored):
    """As to a worker of a DataLoader that is spawned: not its pixels, but where they are."""
    built, _ = stored
    there = copy.copy(built)  # through __reduce__
    assert there is not built
    assert torch.equal(there.images.pixels[:], built.images.pixels[:])
    reopen, arguments = built.__reduce__()
    assert arguments == (built.folder,)
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        assert pool.apply(len, (built,)) == len(built)
    assert len(reopen(*arguments)) == len(built)


def test_open(stored):
    built, _ = stored
    assert isinstance(construct.open(str(built.folder)), ConstructedSet)
    with pytest.raises(InputError, match="no finished constructed set"):
        construct.open(built.folder / "nowhere")


def test_a_set_of_the_first_schema_is_refused(stored, tmp_path, data, source):
    built, _ = stored
    old = built.manifest | {"schema": 1}
    (tmp_path / "manifest.json").write_text(json.dumps(old))
    with pytest.raises(InputError, match=r"must have schema 2. Got 1 instead.*Build the set again in another folder"):
        ConstructedSet(tmp_path)
    with pytest.raises(InputError, match="must have schema 2"):
        relabel(source, data, tmp_path, schedule=QUICK)


def test_a_manifest_that_misses_something_is_refused(stored, tmp_path):
    built, _ = stored
    request = built.manifest["request"]
    for harm, where in (
        ({"shards": [{}]}, "shards.0"),
        ({"request": {}}, "request"),
        ({"request": request | {"batch": "250"}}, "request.batch"),
        ({"request": request | {"shard_images": 0}}, "request.shard_images"),
        ({"more": 1}, "more"),
    ):
        (tmp_path / "manifest.json").write_text(json.dumps(built.manifest | harm))
        with pytest.raises(InputError, match=f"breaks a rule at '{where}"):
            read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(built.manifest | {"shards": []}))
    with pytest.raises(InputError, match="does not list every shard"):
        ConstructedSet(tmp_path)


def test_the_columns_on_disk(stored):
    built, _ = stored
    columns = read_columns(built.folder / "shard-00000.safetensors", ("images", "labels", "start", "target", "loss"))
    assert columns["images"].dtype == getattr(torch, built.manifest["request"]["dtype"])
    assert torch.equal(columns["labels"], built.images.labels)


def test_training_and_measuring_take_every_type(stored, data, source):
    built, _ = stored
    trained = nb.train(nb.new_classifier(data), built.images, nb.Training(epochs=1, batch=20))
    assert nb.measure.predictions(trained, built.images).shape == (60,)
    measured = nb.measure.measure_set(built, data.train, source, source, nb.data.Augmentation())
    assert measured["success_source"]["value"] == pytest.approx(built.manifest["storage"]["success_stored"])
    assert measured["l2"]["max"] == pytest.approx(built.manifest["storage"]["l2_norm"]["max"], rel=1e-5)


def test_description(stored, tmp_path):
    built, _ = stored
    found = describe(built.folder)
    json.dumps(found, allow_nan=False)
    assert (found["kind"], found["status"], found["images"], found["shards"]) == ("relabelled", "complete", 60, 1)
    assert found["hashes"] == {entry["file"]: entry["sha256"] for entry in built.manifest["shards"]}
    assert found["bytes"] == sum(file.stat().st_size for file in built.folder.glob("*.safetensors"))
    for name in ("source", "data", "threat", "schedule", "seed", "dtype"):
        assert found[name] == built.manifest["request"][name]
    assert found["storage"] == built.manifest["storage"]
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(table(found | {"classes": ["[red]a", "b", "c"]}))
    text = console.export_text()
    assert "relabelled, complete" in text
    assert "[red]a, b, c" in text
    assert f"largest {found['storage']['l2_norm']['max']:.4g}" in text
    with pytest.raises(InputError, match="'folder' must hold a constructed set"):
        describe(tmp_path)


def test_description_of_an_unfinished_and_of_a_matched_set(data, source, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "SHARD_IMAGES", 20)

    def kill(done, total, note=""):
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        robustify(source, data, tmp_path, schedule=QUICK, batch=20, progress=kill)
    found = describe(tmp_path)
    assert (found["kind"], found["status"]) == ("matched", "building")
    assert (found["images"], found["shards"], found["shards_wanted"]) == (20, 1, 3)
    assert table(found).row_count == 20


def test_rounding_may_leave_the_threat_model_and_that_is_told(data, source, tmp_path):
    eps = 1.2 / 255  # between grey levels
    exact = relabel(source, data, tmp_path / "exact", threat=Linf(eps), schedule=QUICK)
    rounded = relabel(source, data, tmp_path / "rounded", threat=Linf(eps), schedule=QUICK, dtype="uint8")
    assert exact.manifest["storage"]["linf_norm"]["max"] <= eps + 1e-7
    assert rounded.manifest["storage"]["linf_norm"]["max"] > eps + 1e-4
    assert exact.manifest["storage"]["linf_norm_8bit"] == rounded.manifest["storage"]["linf_norm_8bit"]
    assert not construct.verify(tmp_path / "rounded", data=data, source=source)
    assert math.isclose(L2(0.5).eps, 0.5)


def test_without_torch_distributed_there_is_one_worker():
    assert (workers.rank(), workers.count()) == (0, 1)
    workers.barrier()
