"""Removes the folder of a run that wrote nothing, if the run itself made it."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from omegaconf import OmegaConf

OVERRIDES = ".hydra/overrides.yaml"


class NewFolder:
    """Lists the files that exist before a run, so that they are not deleted.

    The name of a run's folder has the time in it. If a second passes before Hydra makes the folder, its name differs
    from the expected one; its parent does not.

    Args:
        expected: the run's folder, before Hydra makes it.
    """

    def __init__(self, expected: str | Path):
        self.parent = Path(expected).absolute().parent
        self.stood = set(self.parent.iterdir()) if self.parent.is_dir() else set()
        self.stood |= {folder for folder in (self.parent, *self.parent.parents) if folder.exists()}

    def remove(self, folder: str | Path, overrides: Sequence[str]) -> None:
        """Removes the run's folder if it is new, and the new folders above it that are then empty.

        A folder stays if it holds more than Hydra's config and log, if it has another parent than expected, or if it
        holds another run's overrides: two runs that start in the same second share a folder.
        """
        folder = Path(folder).absolute()
        if folder.parent != self.parent or folder in self.stood or not holds_only_logs(folder):
            return
        if list(OmegaConf.load(folder / OVERRIDES)) != list(overrides):
            return
        with suppress(OSError):  # a file system may keep files that are open
            shutil.rmtree(folder)
            for above in folder.parents:
                if above in self.stood or any(above.iterdir()):
                    return
                above.rmdir()


def holds_only_logs(folder: Path) -> bool:
    """Whether a folder holds Hydra's config, and nothing else but log files."""
    others = [file for file in folder.iterdir() if file.suffix != ".log"] if folder.is_dir() else []
    return [file.name for file in others] == [".hydra"] and (folder / OVERRIDES).is_file()
