"""Every command: where its function is, its place in the help, which options everybody needs, and examples.

Nothing here imports what works: the help, the version and the list of recipes appear at once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes
    ----------
    path : str
        Module and function, imported when the command is used.
    group : str
        Under which it stands in the help.
    about : str
        One line.
    examples : tuple of tuple of str
        Commands, each with what it does.
    basic : tuple of str
        Options that `--help` shows; all others need `--help-all`.
    """

    path: str
    group: str
    about: str
    examples: tuple[tuple[str, str], ...]
    basic: tuple[str, ...] = ()


ALWAYS = ("out", "quiet", "data", "seed", "device", "label")
"""Basic on every command that has them."""
WEIGHTS = ("arch", "mean", "std")
TRAINING = ("epochs", "batch", "lr")
_FIGURES = "notbugs.cli.commands"

COMMANDS: dict[str, Command] = {
    "run": Command(
        f"{_FIGURES}:run",
        "Studies",
        "Run a study: train, build the constructed sets, train on them, measure, report.",
        (
            ("notbugs run digits", "the study of handwritten digits, about a minute"),
            ("notbugs run --data FOLDER --seeds 3", "your images, one sub-folder for each class, three seeds"),
        ),
        ("seeds", "name", "arch", "arch.width", "train-images", "test-images", "heldout", "sets", "instruments.all"),
    ),
    "recipes": Command(
        "notbugs.cli.quick:recipes",
        "Studies",
        "List the recipes: what each does, how long it takes, what it gave.",
        (
            ("notbugs recipes", "the table"),
            ("notbugs recipes cifar10-small", "one recipe with all its settings"),
        ),
    ),
    "status": Command(
        "notbugs.cli.quick:status",
        "Studies",
        "Show where a study stands: what is finished, running and left, and the numbers so far.",
        (
            ("notbugs status runs/digits", "a study, which may be running"),
            ("watch -n 5 notbugs status runs/digits", "again every five seconds"),
        ),
    ),
    "report": Command(
        f"{_FIGURES}:report",
        "Studies",
        "Write a study's report again, from its results.",
        (
            ("notbugs report runs/digits", "after an update of notbugs, or on another machine"),
            ("notbugs run digits --no-page && notbugs report runs/digits", "measure first, draw later"),
        ),
    ),
    "figures": Command(
        f"{_FIGURES}:figures",
        "Studies",
        "Write a study's figures and tables for a paper: SVG, PDF, PNG; LaTeX, Markdown, CSV.",
        (
            ("notbugs figures runs/digits", "to runs/digits/figures"),
            ("notbugs figures runs/digits --out paper/figures", "to a folder of your paper"),
        ),
    ),
    "compare": Command(
        f"{_FIGURES}:compare",
        "Studies",
        "Compare finished studies on one page: paired tests, mean and spread over seeds.",
        (
            ("notbugs compare runs/digits runs/digits-wide", "two studies, image by image"),
            ("notbugs compare runs/digits/seed-0 runs/digits/seed-1 --out runs/seeds", "seeds of one study"),
        ),
    ),
    "tune": Command(
        f"{_FIGURES}:tune",
        "Studies",
        "Train on a study's sets with several learning rates and architectures, without the test images.",
        (
            ("notbugs tune runs/digits", "four learning rates on D_rand and D_det"),
            ("notbugs tune runs/digits --sets D_R --learning-rates 0.05 0.1", "another set, other rates"),
        ),
        ("sets", "learning-rates", "architectures", "epochs"),
    ),
    "audit": Command(
        f"{_FIGURES}:audit",
        "Models",
        "Judge a classifier: how much of its accuracy rests on features whose sign flips under attack.",
        (
            ("notbugs audit runs/digits:standard", "a classifier of a study, on the study's data"),
            (
                "notbugs audit theirs.pth --arch resnet18 --mean 0.5 --std 0.25 --data FOLDER --threat l2:0.5",
                "any weights, any images",
            ),
        ),
        (*WEIGHTS, "threat"),
    ),
    "evaluate": Command(
        f"{_FIGURES}:evaluate",
        "Models",
        "Measure the clean and robust accuracy of a classifier, with 95 % intervals.",
        (
            ("notbugs evaluate runs/digits:robust --threat l2:0.25 l2:0.5", "a classifier of a study, two radii"),
            (
                "notbugs evaluate theirs.pth --arch resnet18 --mean 0.5 --std 0.25 --data FOLDER --threat linf:0.0314",
                "any weights",
            ),
        ),
        (*WEIGHTS, "threat", "attack", "autoattack", "test-images"),
    ),
    "transfer": Command(
        f"{_FIGURES}:transfer",
        "Models",
        "Measure how often the adversarial examples of one classifier fool others.",
        (
            ("notbugs transfer runs/digits:standard", "other architectures, trained here"),
            ("notbugs transfer runs/digits:standard runs/digits:independent", "between two classifiers"),
        ),
        (*WEIGHTS, "threat", "architectures", "eps", "norm"),
    ),
    "train": Command(
        f"{_FIGURES}:train",
        "Models",
        "Train a classifier, standard or, with --threat, adversarially; print its clean accuracy.",
        (
            ("notbugs train --data digits --out standard.safetensors", "a standard classifier"),
            ("notbugs train --data FOLDER --arch resnet18 --threat l2:0.5 --out robust.safetensors", "a robust one"),
        ),
        ("arch", *TRAINING, "threat", "on"),
    ),
    "build": Command(
        f"{_FIGURES}:build",
        "Constructed sets",
        "Build a constructed set from any data and any classifier.",
        (
            ("notbugs build robust runs/digits:robust --out D_R", "D_R from a study's robust classifier"),
            (
                "notbugs build det theirs.pth --arch resnet18 --mean 0.5 --std 0.25 --data FOLDER --out D_det",
                "D_det",
            ),
        ),
        (*WEIGHTS, "threat", "of", "weak", "dtype"),
    ),
    "verify": Command(
        f"{_FIGURES}:verify",
        "Constructed sets",
        "Check a constructed set: every hash, shape, range and label; status 1 if anything is wrong.",
        (
            ("notbugs verify D_R", "a set in a folder"),
            ("notbugs verify runs/digits:D_R --data digits --model runs/digits:robust", "also its perturbations"),
        ),
        (*WEIGHTS, "model"),
    ),
    "info": Command(
        "notbugs.cli.quick:info",
        "Constructed sets",
        "Describe a constructed set: source, data, search, success, norms, hashes.",
        (
            ("notbugs info D_R", "a set in a folder"),
            ("notbugs info runs/digits:D_det", "a set of a study"),
        ),
    ),
    "export": Command(
        f"{_FIGURES}:export",
        "Constructed sets",
        "Write a constructed set for other libraries: images in folders, parquet, npz.",
        (
            ("notbugs export D_R --to parquet", "for the `datasets` library"),
            ("notbugs export runs/digits:D_R --to imagefolder --out images", "PNG files, rounded to 8 bits"),
        ),
        ("to",),
    ),
    "theory": Command(
        f"{_FIGURES}:theory",
        "Theory",
        "Check the paper's three theorems on two Gaussians, and write a page with sliders.",
        (
            ("notbugs theory", "to runs/theory"),
            ("notbugs theory --seed 1 --out theory", "with another seed for all simulations"),
        ),
    ),
    "completion": Command(
        "notbugs.cli.quick:completion",
        "Shell",
        "Print the completion script of a shell: bash, zsh or fish.",
        (
            ('eval "$(notbugs completion bash)"', "in bash, for this session"),
            ("notbugs completion fish > ~/.config/fish/completions/notbugs.fish", "in fish, for good"),
        ),
    ),
}

FIRST = """Start here:
  notbugs run pneumonia                the study on chest x-rays, a few minutes
  notbugs run digits                   the same on digits, about a minute
  notbugs run --data FOLDER            on your images, a sub-folder for each class
  notbugs audit MODEL --data FOLDER    judge your own model
  notbugs recipes                      all that can be run by name"""
"""What `notbugs` alone says first."""
