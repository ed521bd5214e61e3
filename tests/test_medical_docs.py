"""docs/how-to/medical-imaging.md runs as it stands, from the top: its Python, and its commands with fewer steps."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from notbugs.__main__ import main

pytestmark = pytest.mark.whole

TEXT = (Path(__file__).parents[1] / "docs" / "how-to" / "medical-imaging.md").read_text(encoding="utf-8")
SMALL = ("--arch.width", "2", "--arch.features", "4", "--precision", "fp32", "--quiet")
TRAIN = ("--epochs", "2", "--batch", "40")
STUDY = (
    *("--standard.epochs", "1", "--robust.epochs", "1", "--constructed.epochs", "1", "--robust.adversary.steps", "1"),
    *(
        "--train-images",
        "24",
        "--test-images",
        "24",
        "--evaluation.attack.steps",
        "1",
        "--evaluation.attack.queries",
        "0",
        "--evaluation.pgd.steps",
        "1",
    ),
    *("--evaluation.radii", "0.5", "--matching.steps", "2", "--relabelling.steps", "2", "--no-page"),
)
LESS = {
    "train": (*SMALL, *TRAIN),
    "evaluate": ("--attack.steps", "1", "--attack.queries", "0", "--quiet"),
    "audit": ("--attack.steps", "1", "--attack.queries", "0", "--images", "2", "--measured", "20", "--quiet"),
    "build": ("--relabelling.steps", "2", "--quiet"),
    "run": (*SMALL, *STUDY),
}
"""By command, what makes it quick."""


def blocks(*kinds: str) -> list[tuple[str, str]]:
    return re.findall(rf"^```({'|'.join(kinds)})\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> dict[str, str]:
    """What each command printed, after everything above it on the page."""
    found: dict[str, str] = {}
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        for kind, block in blocks("python", "sh"):
            if kind == "python":
                exec(compile(block, "docs/how-to/medical-imaging.md", "exec"), names)  # noqa: S102
                continue
            for line in block.splitlines():
                name, command, *rest = shlex.split(line)
                assert name == "notbugs"
                with contextlib.redirect_stdout(io.StringIO()) as said:
                    assert main([command, *rest, *LESS[command]]) == 0, line
                found[line] = said.getvalue().strip()
    return found


def test_every_command_of_the_page_runs(printed):
    assert {line.split()[1] for line in printed} == set(LESS)
    for line, text in printed.items():
        assert text, line


def test_a_rare_disease_is_told_with_balanced_accuracy_and_auc(printed):
    text = printed["notbugs evaluate ill.safetensors --data scans.npz --threat l2:0.25 l2:0.5"]
    share = r"\d+\.\d% \(\d+\.\d to \d+\.\d\)"
    line = rf"{share}, n=80, balanced {share}, AUC {share}"
    assert re.fullmatch(rf"clean: {line}\nl2 0.25: {line}\nl2 0.5: {line}", text)
    assert re.fullmatch(rf"clean: {line}", blocks("text")[0][1].strip())


def test_every_finding_is_told(printed):
    text = printed["notbugs evaluate chest.safetensors --data chest.npz --threat l2:0.5"]
    assert re.findall(r"^(\w.*?)(?:, on .*)?$", text, re.MULTILINE) == [
        *("effusion", "mass", "hernia", "all labels right", "mean over labels")
    ]
    one = printed["notbugs evaluate chest.safetensors --data chest.npz --label mass --threat l2:0.5"]
    assert one.splitlines()[0].split(", balanced")[0] in text
    audited = printed["notbugs audit chest.safetensors --data chest.npz --threat l2:0.5"]
    pages = re.findall(r"runs/audit-chest/label-(\w+)/audit\.html", audited)
    assert pages == ["effusion", "mass", "hernia"]


def test_a_study_of_each_finding(printed):
    assert printed["notbugs run chest-xray --data chest.npz --out runs/chest"] == "runs/chest"
