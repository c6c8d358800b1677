"""Undoes what Hydra did to the folder of a run that wrote nothing: removes it, or restores its previous config."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from omegaconf import OmegaConf

HYDRA = ".hydra"  # Hydra's config in a run's folder


class NewFolder:
    """Lists the files that exist before a run, so that they are not deleted, and keeps Hydra's config of an older run.

    The name of a run's folder has the time in it. If a second passes before Hydra makes the folder, its name differs
    from the expected one; its parent does not.

    Args:
        expected: the run's folder, before Hydra makes it.
    """

    def __init__(self, expected: str | Path):
        self.folder = Path(expected).absolute()
        self.parent = self.folder.parent
        self.stood = {folder for folder in self.folder.parents if folder.exists()}
        self.stood |= set(self.parent.iterdir() if self.parent.is_dir() else ())
        self.config = {file: file.read_bytes() for file in (self.folder / HYDRA).glob("*.yaml")}
        self.written = last_writes(self.folder)

    def undo(self, folder: str | Path, overrides: Sequence[str]) -> None:
        """Removes the run's folder if it is new, and the new folders above it that are then empty.

        The folder stays if it holds more than Hydra's config and log, if its parent is not the expected one, or if it
        holds another run's overrides: two runs that start in the same second share a folder. In a folder that already
        held a run, Hydra's config of that run is restored, if only log files have changed.
        """
        folder = Path(folder).absolute()
        if folder == self.folder and last_writes(folder) == self.written:
            for file, content in self.config.items():
                file.write_bytes(content)
        made, own = folder / HYDRA / "overrides.yaml", folder.parent == self.parent and folder not in self.stood
        if not own or last_writes(folder) or not made.is_file() or list(OmegaConf.load(made)) != list(overrides):
            return
        with suppress(OSError):  # a parent is not empty, or the file system keeps open files
            shutil.rmtree(folder)
            for above in folder.parents:
                if above in self.stood:
                    return
                above.rmdir()


def last_writes(folder: Path) -> dict[Path, int]:
    """When each file of a run's folder was last written, in ns; without Hydra's config and log files."""
    files = folder.iterdir() if folder.is_dir() else ()
    return {file: file.stat().st_mtime_ns for file in files if file.name != HYDRA and file.suffix != ".log"}
