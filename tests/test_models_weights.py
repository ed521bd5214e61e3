"""Files of weights: every layout that is found by itself, and every file that is refused."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import warnings
import zipfile
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from notbugs.errors import InputError
from notbugs.models import build, load_weights
from notbugs.seeds import seeded

State = dict[str, Tensor]


def fresh(seed: int, width: int = 2) -> nn.Module:
    with seeded(seed):
        return build("resnet18", channels=3, classes=4, size=8, width=width)


@pytest.fixture
def state() -> State:
    return fresh(1).state_dict()


def same(network: nn.Module, state: State) -> bool:
    return all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


MEAN = torch.tensor([0.49, 0.48, 0.45]).view(3, 1, 1)
NORMALISER = {"new_mean": MEAN, "new_std": MEAN / 2}
LAYOUTS = {
    "plain": lambda state: state,
    "nested": lambda state: {"state_dict": state, "epoch": 3, "args": {"lr": 0.1}},
    "pytorch-cifar": lambda state: {"net": prefixed("module.", state), "acc": 95.1, "epoch": 199},
    "compiled": lambda state: prefixed("_orig_mod.", state),
    "lightning": lambda state: {"state_dict": prefixed("model.", state), "optimizer_states": [{"state": {0: {}}}]},
    "with its optimizer": lambda state: {
        "model": state,
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2, 3, 3, 3)}}, "param_groups": [{"lr": 0.1}]},
    },
    "normaliser in front": lambda state: {"0.mean": MEAN, "0.std": MEAN} | prefixed("1.", state),
    "normaliser beside": lambda state: state | {"mean": MEAN, "std": MEAN, "normalize.mu": MEAN},
    "wrapped block by block": lambda state: {
        key.replace(".", "._checkpoint_wrapped_module.", 1): v for key, v in state.items()
    },
    "counted by thop": lambda state: (
        state | {"total_ops": torch.zeros(1), "layer1.0.conv1.total_params": torch.zeros(1)}
    ),
    "averaged": lambda state: {"n_averaged": torch.tensor(7)} | prefixed("module.", state),
    "MadryLab": lambda state: {
        "model": prefixed("module.normalizer.", NORMALISER)
        | prefixed("module.model.", state)
        | prefixed("module.attacker.normalize.", NORMALISER)
        | prefixed("module.attacker.model.", state),
        "epoch": 150,
    },
    "old torch": lambda state: {key: value for key, value in state.items() if not key.endswith("batches_tracked")},
    "half precision": lambda state: {key: value.half() for key, value in state.items()},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_others(layout, state, tmp_path, caplog):
    torch.save(LAYOUTS[layout](state), tmp_path / "weights.pth")
    network = load_weights(fresh(2), tmp_path / "weights.pth")
    expected = {name: value.half().to(value.dtype) for name, value in state.items()} if "half" in layout else state
    assert same(network, expected)
    said = re.search(r"has a normaliser, .* give the classifier mean=\(0.49, 0.48, 0.45,\), std=\(", caplog.text)
    assert (said is not None) == (layout == "MadryLab" or "normaliser" in layout)


def test_safetensors_and_the_old_form_of_torch(state, tmp_path):
    save_file(prefixed("network.", state), tmp_path / "weights.safetensors")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("weights.safetensors", "old.pt"):
        assert same(load_weights(fresh(2), tmp_path / name), state)


def test_wrapped_networks_take_the_weights_of_plain_ones(state, tmp_path):
    torch.save(state, tmp_path / "weights.pt")
    wrapped = load_weights(nn.DataParallel(fresh(2)), tmp_path / "weights.pt")
    assert same(wrapped.module, state)


class Within(nn.Module):
    """A network that keeps its layers in an attribute, with a normaliser of its own in front."""

    def __init__(self, name: str, seed: int, head: bool = False) -> None:
        super().__init__()
        inner = fresh(seed)
        if head:
            self.linear = inner.linear
            del inner.linear
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
        self.register_buffer("std", torch.full((1, 3, 1, 1), 0.25))
        setattr(self, name, inner)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        *(("module", ""), ("model", ""), ("net", "module."), ("backbone", "net."), ("module", "_orig_mod.model.")),
        *(("_orig_mod", "backbone."), ("model", "module._orig_mod.backbone.")),
    ],
)
def test_the_network_may_have_a_prefix_too(ours, theirs, state, tmp_path):
    torch.save({"state_dict": prefixed(theirs, state), "epoch": 3}, tmp_path / "weights.pt")
    network = load_weights(Within(ours, 2), tmp_path / "weights.pt")
    assert same(getattr(network, ours), state)
    assert float(network.mean.unique()) == 0.5


def test_a_head_beside_a_backbone(state, tmp_path):
    """On either side, with a prefix around both or not; a head of another set of weights is not taken."""
    apart = {name if name.startswith("linear") else f"backbone.{name}": value for name, value in state.items()}
    whole, split = fresh(2), Within("backbone", 2, head=True)
    for around in ("", "model."):
        torch.save({"state_dict": prefixed(around, apart)}, tmp_path / "apart.pt")
        assert same(load_weights(whole, tmp_path / "apart.pt"), state)
        torch.save({"state_dict": prefixed(around, state)}, tmp_path / "whole.pt")
        load_weights(split, tmp_path / "whole.pt")
        assert torch.equal(split.linear.weight, state["linear.weight"])
        assert torch.equal(split.backbone.conv1.weight, state["conv1.weight"])
    headless = {name: value for name, value in state.items() if "linear" not in name}
    torch.save({"student": headless, "teacher": {"linear.weight": state["linear.weight"]}}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match=r"Missing: linear\.bias, linear\.weight"):
        load_weights(whole, tmp_path / "bad.pt")


# What is refused


def refused(state: State, change: State, tmp_path, message: str, drop: tuple[str, ...] = ()) -> None:
    """The file is refused, and the network is as it was."""
    network, before = fresh(2), fresh(2).state_dict()
    torch.save({name: value for name, value in (state | change).items() if name not in drop}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match=message):
        load_weights(network, tmp_path / "bad.pt")
    assert same(network, before)


def test_what_does_not_fit_is_listed_and_nothing_is_loaded(state, tmp_path):
    refused(state, {}, tmp_path, r"Missing: linear\.bias, linear\.weight\. Check", ("linear.weight", "linear.bias"))
    refused(state, {"layer5.weight": torch.zeros(1)}, tmp_path, r"Unexpected: layer5\.weight\. ")
    refused(
        state,
        {"linear.weight": torch.zeros(10, 16)},
        tmp_path,
        r"Of another shape: linear\.weight \(10, 16\) in place of \(4, 16\)\. .*number of classes",
    )


@pytest.mark.parametrize("channels", [8, 3])
def test_a_layer_called_normalization_is_no_normaliser(channels, state, tmp_path):
    """Left out, the network would be another one."""
    layer = prefixed("normalization.", nn.BatchNorm2d(channels).state_dict())
    torch.save(state | layer, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="Unexpected: normalization.bias"):
        load_weights(fresh(2), tmp_path / "weights.pth")


def test_blocks_of_another_network_are_no_sets_of_weights(tmp_path):
    """Layers of a network are called so in every block of the file's."""
    blocks = nn.Sequential(*(nn.ModuleDict({"conv": nn.Conv2d(3, 3, 1)}) for _ in range(3)))
    torch.save(blocks.state_dict(), tmp_path / "blocks.pth")
    network = nn.ModuleDict({"conv": nn.Conv2d(3, 3, 1), "hidden": nn.Linear(2, 2), "head": nn.Linear(3, 2)})
    with pytest.raises(InputError, match="do not fit the network. Missing: head.bias"):
        load_weights(network, tmp_path / "blocks.pth")


def test_long_lists_are_cut(state, tmp_path):
    torch.save(fresh(1, width=3).state_dict(), tmp_path / "wider.pt")
    with pytest.raises(InputError, match=r"Of another shape: conv1\.weight .* and \d\d more\. ") as caught:
        load_weights(fresh(2), tmp_path / "wider.pt")
    assert len(str(caught.value)) < 600


def test_a_file_of_another_network(tmp_path):
    torch.save({"encoder.block": torch.zeros(3), "decoder.block": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"fit no layer of the network. They are called encoder\.block, decoder"):
        load_weights(fresh(2), tmp_path / "other.pt")


class Malicious:
    """Creates a file as soon as it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_does_not_run(zipped, state, tmp_path):
    file = tmp_path / "evil.pt"
    torch.save(state | {"extra": Malicious(tmp_path / "pwned")}, file, _use_new_zipfile_serialization=zipped)
    assert same(load_weights(fresh(2), file), state)
    assert not (tmp_path / "pwned").exists()
    torch.load(file, weights_only=False)
    assert (tmp_path / "pwned").exists()  # the file would have done it


class Options:
    """Of somebody's own."""

    def __init__(self) -> None:
        self.rate, self.table = 0.1, torch.zeros(3)


def test_everything_that_people_keep_beside_their_weights(state, tmp_path):
    """`torch.load(weights_only=True)` refuses such a file."""
    network = fresh(1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    beside = {
        "accuracy": np.float64(93.2),
        "history": np.arange(3),
        "args": argparse.Namespace(lr=0.1, path=tmp_path),
        "options": Options(),
        "optimizer": optimizer,
        "hyper_parameters": {"loss": nn.CrossEntropyLoss(), "layer": nn.Linear},
        "rng": (torch.get_rng_state(), np.random.default_rng(0)),
        "counts": Counter("aab"),
        "sparse": torch.eye(2).to_sparse(),
        "meta": torch.ones(2, device="meta"),
    }
    torch.save({"state_dict": prefixed("model.", state)} | beside, tmp_path / "lightning.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "lightning.ckpt", weights_only=True)
    assert same(load_weights(fresh(2), tmp_path / "lightning.ckpt"), state)


def test_whole_networks_and_torchscript_are_files_of_weights(state, tmp_path):
    network = fresh(1).eval()
    network.register_buffer("scratch", torch.zeros(2), persistent=False)
    torch.save({"epoch": 3, "model": network}, tmp_path / "whole.pt")
    torch.save(network, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.rand(2, 3, 8, 8)).save(tmp_path / "scripted.pt")
    for name in ("whole.pt", "old.pt", "scripted.pt"):
        into = fresh(2)
        into.register_buffer("scratch", torch.ones(2), persistent=False)
        assert same(load_weights(into, tmp_path / name), state)


def test_pickles_without_torch_save(state, tmp_path):
    for protocol in (2, 5):
        arrays = {name: value.numpy() for name, value in state.items()}
        for saved in ({"model": arrays, "author": "x"}, dict(state)):
            (tmp_path / "weights.pkl").write_bytes(pickle.dumps(saved, protocol))
            assert same(load_weights(fresh(2), tmp_path / "weights.pkl"), state)


@pytest.mark.parametrize("name", ["resnet20-12fca82f.th", "weights", "model.bin", "weights.npz", "x.safetensors"])
def test_the_name_of_a_file_says_nothing(name, state, tmp_path):
    torch.save(state, tmp_path / name)
    assert same(load_weights(fresh(2), tmp_path / name), state)
    save_file(state, tmp_path / name)
    assert same(load_weights(fresh(2), tmp_path / name), state)


NORMS = [(nn.utils.weight_norm, parametrizations.weight_norm), (nn.utils.spectral_norm, parametrizations.spectral_norm)]


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize(("before", "now"), NORMS)
def test_normalised_weights_by_their_old_names_and_their_new_ones(before, now, tmp_path):
    def network(norm) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 3), nn.Sequential(norm(nn.Linear(3, 2)))).eval()

    for file, into in ((before, now), (now, before)):
        saved, network_in = network(file), network(into)
        torch.save({"net": prefixed("module.", saved.state_dict())}, tmp_path / "norm.pth")
        load_weights(network_in, tmp_path / "norm.pth")
        assert torch.equal(network_in(torch.eye(3)), saved(torch.eye(3)))


def test_one_set_of_weights_among_several(state, tmp_path):
    averaged = fresh(3).state_dict()
    file = tmp_path / "timm.pth.tar"
    torch.save({"state_dict": prefixed("module.", state), "state_dict_ema": averaged, "arch": "x"}, file)
    with pytest.raises(
        InputError, match=r"several sets.*'state_dict'.*weights='state_dict_ema' \(--weights state_dict"
    ):
        load_weights(fresh(2), file)
    for name, wanted in (("state_dict", state), ("state_dict_ema", averaged)):
        assert same(load_weights(fresh(2), file, weights=name), wanted)
    with pytest.raises(InputError, match=r"'weights' must name a set.* It has state_dict, state_dict_ema\."):
        load_weights(fresh(2), file, weights="ema")


@pytest.mark.parametrize("whole", ["model", "ema"])
def test_an_average_of_the_numbers_with_a_fraction_is_a_set_of_weights(whole, state, tmp_path):
    """Most averages leave out the counters of batch norms, so two sets that fit are not equally long."""
    sets = {"model": state, "ema": fresh(3).state_dict()}
    sets = {
        name: {key: value for key, value in values.items() if name == whole or value.is_floating_point()}
        for name, values in sets.items()
    }
    torch.save(sets, tmp_path / "averaged.pth")
    with pytest.raises(InputError, match="several sets of weights that fit, 'ema' and 'model'"):
        load_weights(fresh(2), tmp_path / "averaged.pth")
    network = load_weights(fresh(2), tmp_path / "averaged.pth", weights="ema")
    assert torch.equal(network.conv1.weight, sets["ema"]["conv1.weight"])


@pytest.mark.filterwarnings("ignore:.*quantize")
def test_numbers_of_another_kind(state, tmp_path):
    weight = state["linear.weight"]
    for other, message in (
        (weight.to(torch.complex64), r"Of another kind: linear\.weight torch\.complex64 in place of torch\.float32"),
        (weight.to(torch.int8), r"Of another kind: linear\.weight torch\.int8"),
    ):
        refused(state, {"linear.weight": other}, tmp_path, message)
    quantised = torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
    refused(state, {"linear.weight": quantised}, tmp_path, r"linear\.weight is quantised.*dequantize")


BEGINNINGS = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n": r"Git-LFS pointer.*git lfs pull",
    b"<!DOCTYPE html><html>Quota exceeded</html>": "web page.*Download the file itself",
    b'{"error": "Repository not found"}': "JSON text",
    b"\x89HDF\r\n\x1a\n" + bytes(99): "HDF5",
    b"\x1f\x8b" + bytes(99): "gzip",
    b"\0" * 257 + b"ustar" + bytes(99): "tar archive",
    b"": "is empty",
    bytes(600): "full of zeros",
    b"123": "it begins with 31 32 33",
    b"PK\x03\x04" + bytes(99): "cut off or damaged",
    b"\x80\x02" + bytes(9): "cannot be read: its pickle breaks off",
    b"\x09\0\0\0\0\0\0\0{": "cut off or damaged safetensors",
}


@pytest.mark.parametrize("content", BEGINNINGS)
def test_files_that_are_not_weights(content, tmp_path):
    for name in ("weights.safetensors", "weights.pt"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=BEGINNINGS[content]) as caught:
            load_weights(fresh(2), tmp_path / name)
        assert "\n" not in str(caught.value)


def test_archives_that_are_not_weights(state, tmp_path):
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    np.savez(tmp_path / "arrays.npz", state["linear.weight"].numpy())
    with zipfile.ZipFile(tmp_path / "repository.zip", "w") as archive:
        archive.writestr("README.md", "hello")
    (tmp_path / "folder.pt").mkdir()
    for name, message in (
        ("empty.pt", r"holds no tensors. Open it where it was made, and save the network's state_dict\(\)"),
        ("arrays.npz", "npz file"),
        ("repository.zip", "zip archive that torch.save did not write. Unpack it"),
        ("missing.pt", "There is no file"),
        ("folder.pt", "is a folder"),
    ):
        with pytest.raises(InputError, match=message):
            load_weights(fresh(2), tmp_path / name)
