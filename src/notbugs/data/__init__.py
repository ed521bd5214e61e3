"""Images in: every reader returns the same thing, a `Data`."""

from __future__ import annotations

from pathlib import Path

from notbugs.data.augment import Augmentation
from notbugs.data.digits import digits
from notbugs.data.images import Data, Images, round_to_8_bits
from notbugs.data.mapped import Mapped
from notbugs.data.parquet import parquet_folder
from notbugs.errors import InputError

__all__ = ["Augmentation", "Data", "Images", "Mapped", "load", "round_to_8_bits"]


def load(source: str | Path) -> Data:
    """Read a data set by name or path.

    Parameters
    ----------
    source : str or Path
        `digits`, or a folder that holds `train*.parquet` and `test*.parquet`.

    Raises
    ------
    InputError
        If there is no such data set or folder, or what it holds breaks a rule of `Data`.

    Examples
    --------
    >>> load("digits").train.shape
    (1, 8, 8)
    """
    if source == "digits":
        return digits()
    if not str(source).strip():
        raise InputError("The 'data' must be named: 'digits', or a folder of parquet files. Give it with --data.")
    folder = Path(source).expanduser()
    if not folder.exists():
        raise InputError(f"The 'data' must be 'digits' or an existing folder. There is no {str(source)!r}.")
    if not folder.is_dir():
        raise InputError(f"The 'data' must be 'digits' or a folder. {str(source)!r} is a file: name its folder.")
    if not any(folder.iterdir()):
        raise InputError(f"The data folder {str(source)!r} is empty. It must hold train*.parquet and test*.parquet.")
    return parquet_folder(folder)
