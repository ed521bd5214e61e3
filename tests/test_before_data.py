"""What can be refused of a command without its data is refused before these are read."""

from __future__ import annotations

import pytest
import torch

from notbugs import Classifier
from notbugs.__main__ import main
from notbugs.models import Blueprint, save_classifier


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.weight": torch.zeros(2, 4)}, "weights.pt")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "shard-00000.safetensors").touch()
    (tmp_path / "model").mkdir()
    (tmp_path / "there").mkdir()
    plan = Blueprint(architecture="cnn", shape=(1, 8, 8), classes=("a", "b"), options={"width": 2, "features": 2})
    save_classifier("ours.safetensors", Classifier(plan.build()), plan)


CASES = {
    "evaluate wieghts.pt": "There is no file wieghts.pt. Did you mean weights.pt?",
    "evaluate elsewhere/model.pt": "There is no file elsewhere/model.pt. Paths begin at /",
    "evaluate set": "set is a folder, not a file",
    "audit none.pt": "There is no file none.pt",
    "build det none.pt --out made": "There is no file none.pt",
    "build leakage weights.pt --of set --weak none.pt --arch cnn --out made": "There is no file none.pt",
    "build leakage weights.pt --of none --arch cnn --out made": "no finished constructed set in none",
    "transfer weights.pt none.pt --arch cnn --out made": "There is no file none.pt",
    "verify set --model none.pt": "There is no file none.pt",
    "verify model": "be that of a constructed set",
    "evaluate weights.pt": "holds weights alone. Give the 'architecture'",
    "evaluate weights.pt --arch resnet19": "Did you mean 'resnet9'?",
    "evaluate weights.pt --arch cnn --arch.widht 4": "'option of cnn' must be one of width",
    "evaluate weights.pt --arch cnn --mean 0.5": "be given together with the 'std'",
    "evaluate weights.pt --arch torchscript": "weights.pt is no file of torch.jit.save",
    "evaluate weights.pt --arch cnn --outputs none.txt": "cannot be read from none.txt",
    "evaluate hf:./there --mean 0.5": "be given together with the 'std'",
    "transfer weights.pt ours.safetensors --out made": "weights.pt holds weights alone. Give the 'architecture'",
    "transfer weights.pt ours.safetensors --arch cnn --out made": "no-such-data",
    "evaluate ours.safetensors --arch resnet9": "must be 'cnn', as ours.safetensors says",
    "evaluate hf:./model": "model has no config.json",
    "evaluate hf:a/b/c": "be hf:OWNER/NAME",
    "train --out new.safetensors --arch resnet19": "Did you mean 'resnet9'?",
    "train --out new.safetensors --on none": "no finished constructed set in none",
    "run --arch resnet19": "Did you mean 'resnet9'?",
    "evaluate weights.pt --arch cnn --device abacus": "'device' must be one that torch has here",
}


@pytest.mark.parametrize("command", CASES)
def test_before_the_data_are_read(command, capsys):
    pytest.importorskip("transformers") if "hf:" in command else None
    assert main([*command.split(), "--data", "no-such-data"]) == 2
    assert CASES[command] in capsys.readouterr().err
