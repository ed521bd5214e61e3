"""Values that files hold: strict models, and files that hold one, with a checksum."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from notbugs import files
from notbugs.errors import InputError, nearest_path
from notbugs.files import CHECKSUM, Damaged


class Record(BaseModel):
    """Values that do not change, under the names that are declared and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")


T = TypeVar("T")
Made = TypeVar("Made", bound=BaseModel)


class WholeFile(BaseModel):
    """All that a file holds, but for its checksum, which is of the file and checked as that is read."""

    @model_validator(mode="before")
    @classmethod
    def _without_checksum(cls, values: object) -> object:
        return (
            {name: value for name, value in values.items() if name != CHECKSUM} if isinstance(values, dict) else values
        )


def to_json(value: T, kind: type[T]) -> Any:
    """A value of a model, of a `TypedDict`, or of lists, tuples and dicts of them, as a JSON file has it."""
    return adapter(kind).dump_python(value, mode="json", by_alias=True)


def from_json(plain: object, kind: type[T]) -> T:
    """What `to_json` was given.

    Raises
    ------
    ValidationError
        If it is of another kind.
    """
    return adapter(kind).validate_python(plain)


@cache
def adapter(kind: type[T]) -> TypeAdapter[T]:
    """What checks values of a kind, made once: making it takes longer than most checks."""
    return TypeAdapter(kind)


def write_model(path: Path, model: BaseModel) -> None:
    """Write a file that holds one model, with a checksum, for `read_model`."""
    files.write_json(path, json.loads(model.model_dump_json(by_alias=True)))


def read_model(path: Path, kind: type[Made], name: str, work: str) -> Made:
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
        raise InputError(f"There is no {path}. Give the folder of a finished {work}.{nearest_path(path)}") from None
    except Damaged as error:
        raise Damaged(f"{error} Give the command of the {work} again to write it.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(
            f"{path} is not {name} file that this version of notbugs reads: {where}: {first['msg']}. "
            f"Give the command of the {work} again."
        ) from error
