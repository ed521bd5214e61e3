"""What an error tells people to do exists, and works when it is typed as the error has it."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import notbugs as nb
from notbugs.__main__ import main
from notbugs.cli.catalogue import COMMANDS
from notbugs.cli.helping import options
from notbugs.study import Settings
from tests.pictures import write_class_folder

pytestmark = pytest.mark.whole

SOURCE = Path(nb.__file__).parent
MODEL = {"models", "classifier", "networks", "normalisation", "outputs", "shapes", "search"}
"""Rooms whose errors are about a model that somebody gave."""
OTHERS = {
    "network",
    "save_pretrained",
    "to_pandas",
    "relu",
    "f",
    "g",
    "Found",
    "ConstructedSet",
    "granulocytes",
    "rotate",
    "translate",
    "ImageFolder",
}
"""What stands before a bracket and is no function to call."""


@cache
def messages() -> list[tuple[str, str]]:
    """Every text in the code with words, but for docstrings: its file, and the text with `{}` for what is filled in."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        passed = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        passed |= {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            else:
                parts = [node.value] if isinstance(node, ast.Constant) and id(node) not in passed else []
            text = "".join(part for part in parts if isinstance(part, str))
            is_pattern = re.search(r"\(\?|[\])]\?", text)
            if (
                " " in text
                and not is_pattern
                and path.parent.name not in {"cli", "report", "theory"}
                and path.name != "card.py"
            ):
                found.append((str(path.relative_to(SOURCE)), re.sub(r"pip install .*", "", text)))
    return found


def each(pattern: str) -> Iterator[tuple[str, str]]:
    return ((file, name) for file, text in messages() for name in re.findall(pattern, text))


OPTION = r"(?<![\w-])--([a-z][a-z-]*)"
WHOLE = r"`notbugs ([a-z]+)([^`]*)`"
"""A whole command, which names itself who takes its options."""


def takers(file: str) -> set[str]:
    """The commands on which somebody may meet an error of a file."""
    room, name = Path(file).parts[0].removesuffix(".py"), Path(file).stem
    if room == "data":
        return {command for command in COMMANDS if "data" in flags(command)}
    if room in MODEL:
        return {command for command in COMMANDS if "weights" in flags(command)}
    return {name} & COMMANDS.keys()


@cache
def flags(command: str) -> set[str]:
    if command == "run":  # whose two hundred options take seconds to list
        return {"out", "seeds", "quiet", "arch"} | {name.replace("_", "-") for name in Settings.model_fields}
    return {option.name.split(".")[0] for option in options(command)}


def test_every_option_in_an_error_is_one_of_the_commands_that_may_say_it():
    found = {
        (file, name)
        for file, text in messages()
        for name in re.findall(OPTION, re.sub(WHOLE, "", text))
        if name != "help"
    }
    assert len(found) > 40  # else nothing was looked at
    for file, name in sorted(found):
        commands = takers(file) or {next((one for one in COMMANDS if name in flags(one)), "no command")}
        assert [one for one in commands if one not in COMMANDS or name not in flags(one)] == [], f"--{name} in {file}"

    for file, text in messages():
        for command, rest in re.findall(WHOLE, text):
            assert set(re.findall(OPTION, rest)) <= flags(command) | {"help"}, f"{command} {rest} in {file}"


def test_every_command_and_extra_in_an_error_is_there():
    extras = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {name for _, name in each(r"`notbugs ([a-z]+)")} <= COMMANDS.keys()
    raw = "".join(path.read_text() for path in sorted(SOURCE.rglob("*.py")))
    assert set(re.findall(r"'notbugs\[([a-z]+)\]'", raw)) <= extras.keys()


def test_every_function_and_argument_in_an_error_is_there():
    roots = {"np": np, "nn": nn, "F": nn.functional, "torch": torch, "notbugs": nb, "nb": nb}
    alone = {name for place in (nb, nb.models, nb.data, torch, torch.Tensor, nn.Module) for name in dir(place)}
    for file, name in sorted(set(each(r"(?<![\w'.{])([A-Za-z_]+(?:\.[A-Za-z_]+)*)\((?!s\))"))):
        first, *rest = name.split(".")
        assert first in alone | OTHERS | roots.keys(), f"{name}() in {file}"
        found = roots.get(first) or getattr(nb.data, first, getattr(nb, first, None)) if rest else None
        for part in rest:
            found = getattr(found, part)
    known = {"track_running_stats", "training", "dynamic_shapes"}  # torch's
    for function in (nb.load, nb.load_classifier, nb.Classifier):
        known |= inspect.signature(function).parameters.keys()
    known |= nb.data.JPEG.model_fields.keys()
    for file, name in sorted(set(each(r"(?<![\w.-])([a-z_]{3,})=(?=[\w'(.{\[])"))):
        assert name in known or Path(file).parts[0].removesuffix(".py") not in MODEL | {"data"}, f"{name}= in {file}"


def picture_folders() -> None:
    write_class_folder(Path("grey"), {"cat": 4, "dog": 4}, (8, 8))
    write_class_folder(Path("colour"), {"cat": 4, "dog": 4}, (8, 8, 3))
    write_class_folder(Path("sizes"), {"cat": 4, "dog": 4}, (8, 8))
    Image.new("L", (12, 10), 255).save("sizes/cat/1.png")
    write_class_folder(Path("broken"), {"cat": 4, "dog": 4}, (8, 8))
    Path("broken/cat/2.png").write_bytes(b"")
    write_class_folder(Path("linked"), {"cat": 4, "dog": 4}, (8, 8))
    write_class_folder(Path("elsewhere"), {"owl": 4}, (8, 8))
    Path("linked/owl").symlink_to(Path("elsewhere/owl").resolve())
    write_class_folder(Path("table"), {"all": 8}, (8, 8))
    rows = [
        f"all/{number}.png,{'cat' if number % 2 else 'dog'},{'owl' if number % 3 else 'elk'}" for number in range(8)
    ]
    Path("table/all.csv").write_text("\n".join(["file_name,animal,other", *rows]))


def arrays() -> None:
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (12, 8, 8), dtype=np.uint8), np.arange(12) % 2
    np.savez("from1.npz", images=images, labels=labels + 1)
    np.savez("floats.npz", images=images.astype(np.float32), labels=labels)
    np.savez("masks.npz", images=images % 2, labels=labels)
    np.savez("deep.npz", images=images.astype(np.uint16) * 16, labels=labels)


OWN = """
import torch
from torch import nn

class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((1, 1, 1, 1), 0.5))
        self.register_buffer("std", torch.full((1, 1, 1, 1), 0.25))
        self.fc = nn.Linear(64, 2)

    def forward(self, images):
        return self.fc(((images - self.mean) / self.std).flatten(1))
"""


def models() -> None:
    for name, channels, classes in (("grey", 1, 2), ("colour", 3, 2), ("three", 1, 3), ("one", 1, 1)):
        network = nb.models.build("cnn", channels=channels, classes=classes, size=8, width=2, features=4).eval()
        torch.save(network.state_dict(), f"{name}.pth")
        if name == "grey":
            torch.save({"model": network.state_dict(), "ema": nn.Linear(2, 2).state_dict()}, "beside.pth")
            ema = {key: value + 1 for key, value in network.state_dict().items()}
            torch.save({"model": network.state_dict(), "model_ema": ema}, "ema.pth")
            example, dynamic = torch.rand(2, 1, 8, 8), ({0: torch.export.Dim.AUTO},)
            torch.export.save(torch.export.export(network, (example,), dynamic_shapes=dynamic), "program.pt2")
    Path("nets.py").write_text(OWN)
    linear = nn.Linear(64, 2).state_dict()
    torch.save({f"fc.{name}": value for name, value in linear.items()}, "own.pth")


COMMAND = {
    "evaluate": "grey.pth",
    "--data": "grey",
    "--arch": "cnn",
    "--arch.width": "2",
    "--arch.features": "4",
    "--mean": "0.5",
    "--std": "0.25",
    "--threat": "l2:0.5",
    "--attack": "pgd",
    "--attack.steps": "1",
    "--quiet": "",
}
CASES = [
    ("--data from1.npz", "--label-offset 1"),
    ("--data floats.npz", "--white-level 255"),
    ("--data masks.npz", "--white-level 1"),
    ("--data deep.npz", "--white-level 4095"),
    ("--data sizes", "--size 64"),
    ("--data colour", "--channels 1"),
    ("evaluate colour.pth", "--channels 3"),
    ("--data broken", "--skip-broken"),
    ("evaluate three.pth --data linked", "--follow-links"),
    ("--data table", "--label-column animal"),
    ("--mean 127.5 --std 63.75", "--mean 0.5 --std 0.25"),
    ("evaluate own.pth --arch nets:Normalised", "--mean 0 --std 1"),
    ("evaluate own.pth --arch nets.py:Normalised --mean 0 --std 1", "nets:Normalised"),
    ("evaluate own.pth --arch nets:Normalized --mean 0 --std 1", "nets:Normalised"),
    ("evaluate ema.pth", "--weights model_ema"),
    ("evaluate three.pth", "--outputs 0 1"),
    ("evaluate program.pt2 --arch", "--arch exported"),
    ("--threat 0.5", "l2:0.25 l2:0.5"),
    ("--threat linf:8", "linf:0.03137"),
    ("--threat l2:128", "l2:0.502"),
]


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Path:
    """A folder with data and models that people might have."""
    folder = tmp_path_factory.mktemp("there")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        picture_folders()
        arrays()
        models()
    return folder


def typed(changes: str) -> dict[str, str]:
    """Options with their values, as somebody types them."""
    words = re.split(r"(?:^| )(?=--|evaluate )", changes)
    return {word.split(" ")[0]: word.partition(" ")[2] for word in words if word}


def arguments(given: dict[str, str]) -> list[str]:
    left_out = {"--arch", "--arch.width", "--arch.features"} if not given["--arch"] else set()
    if ":" in given["--arch"] or given["--arch"] == "exported":
        left_out = {"--arch.width", "--arch.features"}
    return [word for option, value in given.items() if option not in left_out for word in (option, *value.split())]


@pytest.mark.parametrize(("mistake", "remedy"), CASES)
def test_the_remedy_of_an_error_works_as_it_is_typed(there, monkeypatch, capsys, mistake, remedy):
    monkeypatch.chdir(there)
    given = COMMAND | typed(mistake)
    assert main(arguments(given)) == 2
    said = capsys.readouterr().err
    assert remedy in said
    if not remedy.startswith("--"):  # a value, of the option that was wrong
        remedy = f"{next(name for name in typed(mistake) if name != 'evaluate')} {remedy}"
    assert main(arguments(given | typed(remedy))) == 0
    assert "clean: " in capsys.readouterr().out


def test_a_model_without_features_leaves_no_folder_that_stands_in_the_way(there, monkeypatch, capsys):
    monkeypatch.chdir(there)
    words = ["audit", "program.pt2", "--data", "grey", "--arch", "exported", "--mean", "0.5", "--std", "0.25"]
    assert main([*words, "--out", "audit", "--quiet"]) == 2
    assert "--arch exported --head NAME" in capsys.readouterr().err
    assert not Path("audit").exists()
