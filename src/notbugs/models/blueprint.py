"""What a network is built from."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import nn

from notbugs.models.registry import build
from notbugs.seeds import seeded

TAKEN = frozenset({"name", "channels", "classes", "size"})
"""What a network is told anyway, and no option may be called."""


def check_options(options: dict[str, Any], taken: frozenset[str] = TAKEN) -> None:
    """Refuse options that have the name of something else, with a `ValueError` for pydantic."""
    if found := sorted(taken & options.keys()):
        raise ValueError(f"{found[0]!r} is no option of an architecture: it follows from the data")


class Blueprint(BaseModel):
    """What a network is built from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str = Field(description="By name, as `build` takes it.")
    shape: tuple[int, int, int] = Field(description="Of an image: (channel, height, width).")
    classes: tuple[str, ...] = Field(min_length=2, description="Their names, in the order of the logits.")
    outputs: int | None = Field(None, ge=1, description="Of the network; one for each class if not given.")
    options: dict[str, bool | int | float | str] = Field({}, description="Of the architecture.")

    @field_validator("options")
    @classmethod
    def _check_options(cls, given: dict[str, Any]) -> dict[str, Any]:
        check_options(given)
        return given

    def build(self) -> nn.Module:
        """A network for weights to be loaded into; torch's global generator is left as it was."""
        channels, height, width = self.shape
        options = {name: value for name, value in self.options.items() if name != "pretrained"}
        with seeded(0, "blueprint"):
            count = self.outputs or len(self.classes)
            return build(self.architecture, channels=channels, classes=count, size=(height, width), **options)
