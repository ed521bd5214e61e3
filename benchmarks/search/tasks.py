"""What is measured: the same settings for every library. Radii and steps in pixel units, pixels in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["pgd", "targeted", "minimum norm", "targeted minimum norm", "matching", "training"]


@dataclass(frozen=True)
class Task:
    """One task; `eps` and `step_size` mean nothing where the norm is minimised, `eps` nothing where features match."""

    name: str
    kind: Kind
    steps: int
    norm: Literal["l2", "linf"] = "l2"
    eps: float = 0.5
    step_size: float = 0.1
    lr: float = 0.02
    share: float = 1.0  # of the images: long tasks get fewer

    @property
    def targeted(self) -> bool:
        """Whether the search goes towards a class."""
        return self.kind.startswith("targeted")


TASKS = (
    Task("pgd-20 l2", "pgd", 20),
    Task("pgd-20 linf", "pgd", 20, norm="linf", eps=8 / 255, step_size=2 / 255),
    Task("relabelling", "targeted", 100),
    Task("minimum norm", "minimum norm", 100, share=0.5),
    Task("minimum norm, targeted", "targeted minimum norm", 100, share=0.5),
    Task("feature matching", "matching", 1000, share=0.25),
    Task("adversarial training", "training", 7, step_size=2.5 * 0.5 / 7),
)


def quick(task: Task) -> Task:
    """The same task with at most a twentieth of the matching steps and a third of the other long ones."""
    return replace(task, steps={1000: 50, 100: 30}.get(task.steps, task.steps))
