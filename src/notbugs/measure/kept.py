"""An attack on many images, batch by batch, in a file from which it goes on after a kill."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from notbugs.files import read_tensors, write_tensors
from notbugs.progress import Progress


class Kept:
    """What became of images so far.

    Parameters
    ----------
    folder : Path or None
        Where it is kept, in a file named by `request`; None: nowhere.
    request : sequence
        Everything that the outcomes follow from. With another one nothing is taken up.
    survived : Tensor
        Shape (n,), bool: the images to attack. What is on disk comes before it, since on another machine a close call
        may fall otherwise.
    """

    def __init__(self, folder: Path | None, request: tuple[object, ...], survived: Tensor) -> None:
        digest = hashlib.sha256(repr(request).encode()).hexdigest()[:16]
        self.path = folder / f"{digest}.safetensors" if folder else None
        self.survived, self.index, self.done = survived, survived.nonzero().flatten(), 0
        if self.path and self.path.exists():
            found = read_tensors(self.path)
            self.survived, self.index, self.done = found["survived"], found["index"], int(found["done"])

    def attack(self, batch: int, survives: Callable[[Tensor], Tensor], progress: Progress) -> Tensor:
        """Which images survive in the end, shape (n,); `survives` is told the numbers of a batch of those left."""
        for part in self.index[self.done :].split(batch) if self.done < len(self.index) else ():
            self.survived[part] = survives(part)
            self.done += len(part)
            self._write()
            progress(self.done, len(self.index))
        return self.survived

    def _write(self) -> None:
        if self.path:
            found = {"survived": self.survived, "index": self.index, "done": torch.tensor(self.done)}
            write_tensors(self.path, found)
