"""Parts of a study by name: `runs/digits:robust` is a classifier, `runs/digits:D_R` a constructed set."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from notbugs.errors import InputError, nearest_path


def model_file(given: str | Path) -> Path:
    """The file of a classifier: as it is given, or a study's, named as STUDY:NAME.

    Parameters
    ----------
    given : str or Path
        A file, or the folder of a study, a colon and the name of one of its classifiers.

    Raises
    ------
    InputError
        If there is no such study or classifier; with the nearest name.
    """
    return _part(given, "classifiers", ".safetensors", "classifier")


def set_folder(given: str | Path) -> Path:
    """The folder of a constructed set: as it is given, or a study's, named as STUDY:NAME.

    Parameters
    ----------
    given : str or Path
        A folder, or the folder of a study, a colon and the name of one of its sets.

    Raises
    ------
    InputError
        If there is no such study or set; with the nearest name.
    """
    return _part(given, "sets", "", "constructed set")


def study_of(given: str | Path) -> Path | None:
    """The folder of the study of which a part is named, if it is named so."""
    study, colon, name = str(given).rpartition(":")
    return Path(study) if colon and name and not Path(given).exists() and Path(study).is_dir() else None


def _part(given: str | Path, within: str, ending: str, what: str) -> Path:
    text = str(given)
    study, colon, name = text.rpartition(":")
    if not colon or study == "hf" or Path(text).exists():
        return Path(text)
    folder = Path(study) / within
    found = folder / f"{name}{ending}"
    if found.exists():
        return found
    if not Path(study).is_dir():
        raise InputError(f"There is no study {study}.{nearest_path(Path(study))}")
    known = sorted(path.name.removesuffix(ending) for path in folder.glob(f"*{ending}") if path.name[0] != ".")
    known = [one for one in known if not one.endswith(".unfinished")]
    near = get_close_matches(name, known, 1)
    did = f" Did you mean {study}:{near[0]}?" if near else ""
    has = f" It has {', '.join(known)}." if known else f" It has none yet: `notbugs status {study}` shows where it is."
    raise InputError(f"The study {study} has no {what} {name!r}.{did}{has}")
