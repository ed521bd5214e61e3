"""What became of every test image, kept beside a study's numbers, so that two studies can be held image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from notbugs.data import Images
from notbugs.errors import InputError, in_one_line
from notbugs.files import check_tensors, warn_unchecked, write_tensors
from notbugs.measure import AttackUsed, Outcome

FORMAT = "1"
_ATTACKS = TypeAdapter(list[AttackUsed | None])


@dataclass(frozen=True)
class KeptOutcomes:
    """One classifier's outcomes: clean first, then one for each attack.

    Attributes
    ----------
    test_images : str
        `Images.fingerprint` of the images they are of.
    """

    test_images: str
    outcomes: tuple[Outcome, ...]


def write_outcomes(folder: Path, name: str, found: Sequence[Outcome], images: Images) -> None:
    """Write `outcomes/NAME.safetensors` into the folder of a study: a byte for each image and attack."""
    attacks = _ATTACKS.dump_json([item.attack for item in found]).decode()
    metadata = {"format": FORMAT, "test_images": images.fingerprint, "attacks": attacks}
    tensors = {str(number): item.survived for number, item in enumerate(found)}
    write_tensors(outcomes_file(folder, name), tensors, metadata)


def read_outcomes(folder: Path, name: str) -> KeptOutcomes | None:
    """What `write_outcomes` wrote; None where there is no such file, as in studies made before outcomes were kept.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    path = outcomes_file(folder, name)
    if not path.is_file():
        return None
    try:
        if not check_tensors(path):
            warn_unchecked(path)
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
            survived = [file.get_tensor(str(number)).bool() for number in range(len(file.keys()))]
        attacks = _ATTACKS.validate_json(said["attacks"])
        outcomes = tuple(Outcome(*pair) for pair in zip(attacks, survived, strict=True))
        return KeptOutcomes(said["test_images"], outcomes)
    except (SafetensorError, KeyError, ValidationError, ValueError, OSError) as error:
        stage = folder / "stages" / f"evaluate-{name}.json"
        remedy = f"Delete it to compare without it, or {stage} to measure again"
        raise InputError(f"{path} is not a readable file of outcomes ({in_one_line(error)}). {remedy}.") from error


def outcomes_file(folder: Path, name: str) -> Path:
    """Where a classifier's outcomes are, in the folder of a study."""
    return folder / "outcomes" / f"{name}.safetensors"
