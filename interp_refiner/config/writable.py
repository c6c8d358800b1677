"""Refuses paths that cannot be written to before the work starts."""

import os
import tempfile
from pathlib import Path

from interp_refiner.core import BadValue


def writable(name: str, path: Path) -> Path:
    """Returns ``path`` if a file or folder of that name can be written; leaves nothing behind.

    Args:
        name: of the setting, for the error.
        path: will be written, with the folders above it.

    Raises:
        BadValue: there is a file where a folder has to be, or the folder is not writable.
    """
    try:
        folder = path if path.is_dir() else next(above for above in path.absolute().parents if os.path.lexists(above))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadValue(name, path, f"a writable place: {error.strerror}") from None
    return path


def writable_folder(name: str, path: Path) -> Path:
    """:func:`writable`, for a folder: it may be there already, but not as a file."""
    if path.exists() and not path.is_dir():
        raise BadValue(name, path, "a folder, but this is a file")
    return writable(name, path)
