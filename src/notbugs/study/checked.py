"""The types of whole files."""

from __future__ import annotations

from pydantic import BaseModel, model_validator

from notbugs.files import CHECKSUM


class WholeFile(BaseModel):
    """All that a file holds, but for its checksum, which is of the file and checked as that is read."""

    @model_validator(mode="before")
    @classmethod
    def _without_checksum(cls, given: object) -> object:
        return {name: value for name, value in given.items() if name != CHECKSUM} if isinstance(given, dict) else given
