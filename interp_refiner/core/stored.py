"""Reads files that ``torch.save`` wrote, which may be damaged or hold something else."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp_refiner.core.errors import BadValue


def load_stored(name: str, path: str | Path, wanted: str) -> Any:
    """The content of a file of ``torch.save``, on the CPU.

    Args:
        name: the setting that names the file, for the error.
        path: the file.
        wanted: what the file should hold, for the error.

    Raises:
        BadValue: no such file, or a damaged one.
    """
    try:
        return torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BadValue(name, path, f"{wanted}: no such file") from error
    except Exception as error:  # unpickling a damaged file can raise any exception
        raise BadValue(name, path, f"{wanted}: no such content") from error


def load_tensor(name: str, path: str | Path, wanted: str) -> Tensor:
    """:func:`load_stored` for a file of one tensor; also raises :class:`BadValue` for other content."""
    tensor = load_stored(name, path, wanted)
    if not isinstance(tensor, Tensor):
        raise BadValue(name, path, f"{wanted}, it holds {type(tensor).__name__}")
    return tensor
