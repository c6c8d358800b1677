"""Removes the folders of runs that were refused or wrote nothing."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interp_refiner.config.new_folder import holds_only_logs
from interp_refiner.config.refusal import MISTAKES


@contextmanager
def nothing_left(folder: Path, root: Path, only_looks: bool) -> Iterator[None]:
    """Removes the folder that Hydra made for a run if the block only looks, or is refused.

    A folder that holds more than Hydra's own config and log stays. So does everything after a bug.

    Args:
        folder: of the run.
        root: the folder of all logs; folders between it and ``folder`` that are empty then are removed too.
        only_looks: whether the block writes nothing.
    """
    try:
        yield
    except MISTAKES:
        _remove(folder, root)
        raise
    if only_looks:
        _remove(folder, root)


def _remove(folder: Path, root: Path) -> None:
    if not folder.is_dir() or not holds_only_logs(folder):
        return
    shutil.rmtree(folder)
    for above in folder.parents:
        if not above.is_relative_to(root) or any(above.iterdir()):
            return
        above.rmdir()
