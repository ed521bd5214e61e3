"""Files of weights: every layout that is found by itself, and every file that is refused."""

from __future__ import annotations

import argparse
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

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
def test_layouts_of_others(layout, state, tmp_path):
    torch.save(LAYOUTS[layout](state), tmp_path / "weights.pth")
    network = load_weights(fresh(2), tmp_path / "weights.pth")
    expected = {name: value.half().to(value.dtype) for name, value in state.items()} if "half" in layout else state
    assert same(network, expected)


def test_safetensors_and_the_old_form_of_torch(state, tmp_path):
    save_file(prefixed("network.", state), tmp_path / "weights.safetensors")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("weights.safetensors", "old.pt"):
        assert same(load_weights(fresh(2), tmp_path / name), state)


def test_wrapped_networks_take_the_weights_of_plain_ones(state, tmp_path):
    torch.save(state, tmp_path / "weights.pt")
    wrapped = load_weights(nn.DataParallel(fresh(2)), tmp_path / "weights.pt")
    assert same(wrapped.module, state)


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


def test_long_lists_are_cut(state, tmp_path):
    torch.save(fresh(1, width=3).state_dict(), tmp_path / "wider.pt")
    with pytest.raises(InputError, match=r"Of another shape: conv1\.weight .* and \d\d more\. ") as caught:
        load_weights(fresh(2), tmp_path / "wider.pt")
    assert len(str(caught.value)) < 600


def test_a_file_of_another_network(tmp_path):
    torch.save({"encoder.block": torch.zeros(3), "decoder.block": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"fit no layer of the network. They are called encoder\.block, decoder"):
        load_weights(fresh(2), tmp_path / "other.pt")


def test_two_networks_in_one_file(state, tmp_path):
    torch.save({"model": state, "ema": fresh(3).state_dict()}, tmp_path / "two.pt")
    with pytest.raises(InputError, match=r"two networks that both fit, under 'model\.' and 'ema\.'"):
        load_weights(fresh(2), tmp_path / "two.pt")


class Malicious:
    """Creates a file as soon as it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_does_not_run(zipped, state, tmp_path):
    torch.save(
        state | {"extra": Malicious(tmp_path / "pwned")}, tmp_path / "evil.pt", _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(InputError, match=r"cannot be opened safely: it wants to run posix\.mkdir.*as safetensors"):
        load_weights(fresh(2), tmp_path / "evil.pt")
    assert not (tmp_path / "pwned").exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "pwned").exists()  # the file would have done it


def test_files_that_are_not_weights(state, tmp_path):
    torch.save(fresh(1), tmp_path / "module.pt")
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=1)}, tmp_path / "arguments.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    (tmp_path / "text.pt").write_text("<html>Quota exceeded</html>")
    (tmp_path / "cut.safetensors").write_bytes(b"123")
    (tmp_path / "weights.npz").touch()
    for name, message in (
        ("module.pt", "cannot be opened safely: it wants to run torch.nn"),
        ("arguments.pt", r"it wants to run argparse\.Namespace"),
        ("empty.pt", "holds no tensors"),
        ("text.pt", r"torch\.save did not write it, or it is damaged"),
        ("cut.safetensors", "not a readable safetensors file"),
        ("weights.npz", r"'file' must end in \.safetensors, or in one of \.pt"),
        ("missing.pt", "There is no file"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            load_weights(fresh(2), tmp_path / name)
        assert "weights_only" not in str(caught.value)
        assert "\n" not in str(caught.value)
