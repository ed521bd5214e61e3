"""The commands that work: made from the functions of the library; no logic of their own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token

from notbugs import construct, study, workers
from notbugs.catalogue import study_of
from notbugs.console import TerminalConsole, show, tell
from notbugs.errors import InputError, check_count
from notbugs.report import (
    require_extra,
    write_audit_page,
    write_comparison,
    write_figures,
    write_report,
    write_theory,
    write_transfer,
    write_tune,
)
from notbugs.study import (
    AuditJob,
    BuildJob,
    EvaluateJob,
    Kind,
    Line,
    Settings,
    TrainJob,
    TransferJob,
    TuneJob,
    VerifyJob,
)


def _whole(kind: type, tokens: Sequence[Token]) -> int:
    """A whole number as it was written: 2.5 would else become 2."""
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"give a whole number, not {text!r}") from None


Flat = Parameter(name="*")
Whole = Annotated[int, Parameter(converter=_whole)]
NO_SETTINGS = Settings()
TRAIN, BUILD, EVALUATE, VERIFY = TrainJob(), BuildJob(), EvaluateJob(), VerifyJob()
AUDIT, TRANSFER, TUNE = AuditJob(), TransferJob(), TuneJob()


def run(
    recipe: str = "images",
    /,
    *,
    out: Path | None = None,
    seeds: Whole = 1,
    page: bool = True,
    quiet: bool = False,
    settings: Annotated[Settings, Parameter(name="*", show_default=False)] = NO_SETTINGS,
) -> None:
    """Run a study: train, build the constructed sets, train on them, measure, report.

    The same command again continues where a run that was stopped left off. Under torchrun, several processes share the
    work. The last line printed is the path of the report, or with several seeds that of the page which compares them.
    With several labels for an image and no --label, there is a study of each, in a folder label-NAME of its own.

    Parameters
    ----------
    recipe
        A recipe by name (`notbugs recipes` lists them), or a TOML file; the one for any images by default. Every
        option below overrides it.
    out
        The study's folder; runs/NAME by default, and for the recipe `images` runs/DATA.
    seeds
        Run the study so many times, with --seed and the seeds after it, each in a folder seed-SEED of its own, and
        report mean and spread.
    page
        Draw the report. Without, for a machine that lacks its libraries, `notbugs report` draws it elsewhere, from
        results.json and gallery.safetensors, and the last line printed is the folder.
    quiet
        Print only that last line.
    """
    if page:
        require_extra()
    resolved = study.read_recipe(recipe, settings.model_dump(exclude_unset=True))
    folder = out or Path("runs") / study.folder_name(resolved)
    studies = study.with_seeds(resolved, seeds, folder)
    with workers.joined():
        console = _console(quiet)
        done: list[Path] = []
        for where, one in studies.items():
            for finished, _ in study.run_labels(one, where, console):
                done.append(finished)
                if page and workers.rank() == 0:
                    _reported(finished, console)
        if workers.rank() == 0:
            tell(_last_page(done, folder, console) if page else folder)


def compare(*folders: Path, out: Path = Path("runs/compare"), quiet: bool = False) -> None:
    """Compare finished studies on one page: paired tests, mean and spread over seeds.

    The last line printed is the path of the page; `compare.json` beside it has every number.

    Parameters
    ----------
    folders
        Of the studies, two or more.
    out
        The folder to write to.
    quiet
        Print only the path of the page.
    """
    require_extra()
    tell(_compared(folders, out, _console(quiet)))


def report(folder: Path, /) -> None:
    """Write a study's report again, from its results.

    Parameters
    ----------
    folder
        The study's folder.
    """
    tell(_reported(folder, _console(quiet=True)))


def figures(folder: Path, /, *, out: Path | None = None) -> None:
    """Write a study's figures and tables for a paper: SVG, PDF, PNG; LaTeX, Markdown, CSV.

    In the fonts and widths of NeurIPS. The last line printed is the folder written.

    Parameters
    ----------
    folder
        The study's folder.
    out
        The folder to write; FOLDER/figures by default.
    """
    tell(write_figures(folder, out))


def train(*, out: Path, quiet: bool = False, job: Annotated[TrainJob, Flat] = TRAIN) -> None:
    """Train a classifier, standard or, with --threat, adversarially; print its clean accuracy.

    The same command again continues where a run that was stopped left off. Under torchrun, several processes share the
    work.

    Parameters
    ----------
    out
        The file to write, in safetensors: weights, and everything needed to build the classifier again.
    quiet
        Print only the accuracy.
    """
    with workers.joined():
        _print_accuracies(study.train_one(job, out, _console(quiet)))


def build(
    kind: Kind, model: Path, /, *, out: Path, quiet: bool = False, job: Annotated[BuildJob, Flat] = BUILD
) -> None:
    """Build a constructed set from any data and any classifier.

    The same command again continues one that was stopped, and repairs what is damaged. Under torchrun, several
    processes share the work. The last line printed is the folder.

    Parameters
    ----------
    kind
        robust or nonrobust (D_R or D_NR: feature matching, from a robust or a standard classifier); rand, rand-other,
        rand-min or det (D_rand with any targets, with wrong ones, the same by the smallest perturbation, and D_det with
        the next class: relabelled); bugs, rand-low, half-robust and others (docs/explanation/sets.md); leakage, random
        or labels (controls of the relabelled set --of); mislabelled (the images that the model gets wrong, as it labels
        them).
    model
        The source: a file of `notbugs train`, STUDY:NAME as runs/digits:robust, or any weights with --arch, --mean
        and --std.
    out
        The folder to write.
    quiet
        Print only the folder.
    """
    with workers.joined():
        study.build_one(kind, model, job, out, _console(quiet))
        if workers.rank() == 0:
            tell(out)


def evaluate(model: Path, /, *, quiet: bool = False, job: Annotated[EvaluateJob, Flat] = EVALUATE) -> None:
    """Measure the clean and robust accuracy of a classifier, with 95 % intervals.

    With --autoattack, AutoAttack's beside it, the worst of both, and a mark where they differ by more than a point.
    With --spatial.degrees or --spatial.pixels, also under the worst rotation and shift of a grid and two searches.

    Parameters
    ----------
    model
        A file of `notbugs train`, STUDY:NAME as runs/digits:robust, or any weights with --arch, --mean and --std.
    quiet
        Print only the accuracies.
    """
    _refuse_workers("evaluate")
    _print_accuracies(study.evaluate_one(model, job, _console(quiet)))


def transfer(
    source: Path,
    /,
    *others: Path,
    out: Path = Path("runs/transfer"),
    quiet: bool = False,
    job: Annotated[TransferJob, Flat] = TRANSFER,
) -> None:
    """Measure how often the adversarial examples of one classifier fool others.

    With the source alone: build its D_det, train architectures on it and on the data, and compare what they learn
    from it with how often they are fooled (the paper's Figures 3 and 13). With other classifiers: every one of them
    against every other, without training, unless architectures are named as well. The same command again goes on
    where a killed one stopped. The last line printed is the path of the page; `transfer.json` beside it has every
    number.

    Parameters
    ----------
    source
        A file of `notbugs train`, STUDY:NAME as runs/digits:robust, or any weights with --arch, --mean and --std.
    others
        More of them.
    out
        The folder to write to.
    quiet
        Print only the path of the page.
    """
    require_extra()
    _refuse_workers("transfer")
    result = study.transfer_one(source, others, job, out, _console(quiet))
    if not quiet:
        tell(*result.lines())
    tell(write_transfer(out))


def tune(folder: Path, /, *, quiet: bool = False, job: Annotated[TuneJob, Flat] = TUNE) -> None:
    """Train on a study's sets with several learning rates and architectures, without the test images.

    The same command again continues one that was stopped. The last line printed is the path of the page, in the
    study's folder; `tune.json` beside it has every number.

    Parameters
    ----------
    folder
        Of a study that was run.
    quiet
        Print only the path of the page.
    """
    require_extra()
    _refuse_workers("tune")
    tuned = study.tune(folder, job, _console(quiet))
    if not quiet:
        tell(*tuned.lines())
    tell(write_tune(folder / "tune"))


def audit(
    model: Path, /, *, out: Path | None = None, quiet: bool = False, job: Annotated[AuditJob, Flat] = AUDIT
) -> None:
    """Judge a classifier: how much of its accuracy rests on features whose sign flips under attack.

    The same command again continues one that was stopped. The last line printed is the path of the page;
    `audit.json` beside it has every number. With several labels for an image and no --label, each is audited, in a
    folder label-NAME with a page of its own, and the last page is over all of them.

    Parameters
    ----------
    model
        A file of `notbugs train`, STUDY:NAME as runs/digits:robust, or any weights with --arch, --mean and --std.
    out
        The folder to write; runs/audit-MODEL by default.
    quiet
        Print only the verdict and the path of the page.
    """
    require_extra()
    _refuse_workers("audit")
    folder = out or Path("runs") / f"audit-{model.stem.replace(':', '-')}"
    console = _console(quiet)
    done: list[Path] = []
    for finished, written in study.audit_labels(model, job, folder, console):
        done.append(finished)
        audit = written.audit
        if not quiet:
            show(study.audit_table(audit))
        tell(*audit.verdict.sentences)
        tell(write_audit_page(finished))
    if done != [folder]:
        tell(write_audit_page(folder))


def verify(folder: Path, /, *, quiet: bool = False, job: Annotated[VerifyJob, Flat] = VERIFY) -> int:
    """Check a constructed set: every hash, shape, range and label; status 1 if anything is wrong.

    Parameters
    ----------
    folder
        The set: a folder, or STUDY:NAME, as runs/digits:D_R.
    quiet
        Print only what is wrong.
    """
    findings = study.verify_one(folder, job, _console(quiet))
    for finding in findings:
        tell(finding)
    if not (findings or quiet):
        tell(f"No fault found in {folder}.")
    return int(bool(findings))


def export(
    folder: Path,
    /,
    *,
    to: construct.Format,
    out: Path | None = None,
    license: str | None = None,
    quiet: bool = False,
) -> None:
    """Write a constructed set for other libraries: images in folders, parquet, npz.

    The last line printed is the folder written.

    Parameters
    ----------
    folder
        The set: a folder, or STUDY:NAME, as runs/digits:D_R.
    to
        imagefolder (PNG files, rounded to 8 bits), parquet (for `datasets`, pixels as they are stored), npz, or
        hub-folder (parquet with hashes and a loader that checks them, as a repository of the Hugging Face Hub).
    out
        The folder to write, which must not be there yet; FOLDER-FORMAT by default.
    license
        Of the source data, by the Hub's name, as cc-by-4.0; the card says other without.
    quiet
        Print only the folder.
    """
    with _console(quiet).stage(f"export to {to}") as progress:
        written = construct.export(folder, out or _beside(folder, to), to, license=license, progress=progress)
    tell(written)


def theory(*, out: Path = Path("runs/theory"), seed: Whole = 0) -> None:
    """Check the paper's three theorems on two Gaussians, and write a page with sliders.

    The last line printed is the path of the page; `theory.json` beside it has every number.

    Parameters
    ----------
    out
        The folder to write to.
    seed
        Of all simulations.
    """
    check_count("seed", seed, low=0)
    tell(write_theory(out, seed))


def _reported(folder: Path, console: TerminalConsole) -> Path:
    """Write the report of one study, and the theory that it links to; return its path."""
    report = write_report(folder)
    if not (folder / "theory.html").exists():
        with console.stage("the theory, checked"):
            write_theory(folder)
    return report


def _last_page(folders: Sequence[Path], out: Path, console: TerminalConsole) -> Path:
    """The report of the only study, or the page that compares several, which is written."""
    return folders[0] / "report.html" if len(folders) == 1 else _compared(folders, out, console)


def _compared(folders: Sequence[Path], out: Path, console: TerminalConsole) -> Path:
    """Compare studies; return the path of the page."""
    for line in study.compare(folders, out, console).lines():
        console.say(line)
    return write_comparison(out)


def _beside(folder: Path, to: str) -> Path:
    """Where an export goes by default: beside its set, or for a set of a study into the working folder."""
    name = folder.name.replace(":", "-") if study_of(folder) else folder
    return Path(f"{name}-{to}")


def _refuse_workers(command: str) -> None:
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError(f"`notbugs {command}` is for one process. Under torchrun, `run`, `build` and `train` share.")


def _console(quiet: bool) -> TerminalConsole:
    return TerminalConsole(quiet=quiet or workers.rank() > 0)


def _print_accuracies(lines: Sequence[Line]) -> None:
    if workers.rank() == 0:
        tell(*(line for item in lines for line in str(item).split("\n")))
