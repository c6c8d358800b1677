"""Undoes what Hydra did to the folder of a run that wrote nothing: removes it, or gives it its former config back."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from omegaconf import OmegaConf

HYDRA = ".hydra"  # Hydra's config in a run's folder
OVERRIDES = f"{HYDRA}/overrides.yaml"


class NewFolder:
    """Lists the files that exist before a run, so that they are not deleted, and keeps Hydra's config of an older run.

    The name of a run's folder has the time in it. If a second passes before Hydra makes the folder, its name differs
    from the expected one; its parent does not.

    Args:
        expected: the run's folder, before Hydra makes it.
    """

    def __init__(self, expected: str | Path):
        self.parent = Path(expected).absolute().parent
        self.stood = set(self.parent.iterdir()) if self.parent.is_dir() else set()
        self.stood |= {folder for folder in (self.parent, *self.parent.parents) if folder.exists()}
        self.folder = Path(expected).absolute()
        self.config = {file: file.read_bytes() for file in (self.folder / HYDRA).glob("*.yaml")}
        self.written = last_writes(self.folder)

    def undo(self, folder: str | Path, overrides: Sequence[str]) -> None:
        """Removes the run's folder if it is new, and the new folders above it that are then empty.

        A folder that already held a run gets Hydra's config of that run back, if only log files have changed.

        A folder stays if it holds more than Hydra's config and log, if it has another parent than expected, or if it
        holds another run's overrides: two runs that start in the same second share a folder.
        """
        folder = Path(folder).absolute()
        if folder == self.folder and last_writes(folder) == self.written:
            for file, content in self.config.items():
                file.write_bytes(content)
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


def last_writes(folder: Path) -> dict[Path, int]:
    """When each file of a run's folder was last written, in ns; without Hydra's config and log files."""
    files = folder.iterdir() if folder.is_dir() else ()
    return {file: file.stat().st_mtime_ns for file in files if file.name != HYDRA and file.suffix != ".log"}


def holds_only_logs(folder: Path) -> bool:
    """Whether a folder holds Hydra's config, and nothing else but log files."""
    others = [file for file in folder.iterdir() if file.suffix != ".log"] if folder.is_dir() else []
    return [file.name for file in others] == [HYDRA] and (folder / OVERRIDES).is_file()
