"""The JSON files that a study, or a tool beside it, left; checked as they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from notbugs import files
from notbugs.errors import InputError
from notbugs.files import Damaged
from notbugs.study.results import Results

Made = TypeVar("Made", bound=BaseModel)


def read_results(path: str | Path) -> Results:
    """Read `results.json`.

    Parameters
    ----------
    path : str or Path
        The file, or the folder of a study.

    Raises
    ------
    InputError
        If the file is missing, or is not a results file of this version of notbugs.
    Damaged
        If it was changed since it was written, or a classifier was: the numbers are not of that one.

    Examples
    --------
    >>> results = nb.study.read_results('runs/digits')  # doctest: +SKIP
    >>> table = results.to_pandas()  # doctest: +SKIP
    """
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    found = read_json(path, Results, "a results", "study")
    for name, digest in found.study.classifiers.items():
        file = path.parent / "classifiers" / f"{Path(name).name}.safetensors"
        if file.is_file() and files.sha256(file) != digest:
            raise Damaged(
                f"{file} is damaged: the numbers in {path} are of another one. "
                "Give the command of the study again: it trains it again."
            )
    return found


def write_model(path: Path, model: BaseModel) -> None:
    """Write a file that holds one model, with a checksum, for `read_json`."""
    files.write_json(path, json.loads(model.model_dump_json(by_alias=True)))


def read_json(path: Path, kind: type[Made], name: str, work: str) -> Made:
    """Read a file that holds one `kind`; errors call it a `name` file, and name the `work` that writes it.

    Raises
    ------
    InputError
        If the file is missing, malformed, or was changed since it was written, or a link leads out of its folder.
    """
    if path.exists():
        files.check_links(path.parent)
    try:
        return kind.model_validate_json(json.dumps(files.read_json(path)))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise InputError(f"There is no {path}. Give the folder of a finished {work}.") from None
    except Damaged as error:
        raise Damaged(f"{error} Give the command of the {work} again to write it anew.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(
            f"{path} is not {name} file that this version of notbugs reads: {where}: {first['msg']}. "
            f"Give the command of the {work} again."
        ) from error
