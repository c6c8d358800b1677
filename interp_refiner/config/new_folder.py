"""Removes the folder of a refused run, if the run itself made it and wrote nothing but Hydra's config and log."""

import shutil
from pathlib import Path


def holds_only_logs(folder: Path) -> bool:
    """Whether a folder holds nothing but Hydra's config and log files."""
    return all(file.name == ".hydra" or file.suffix == ".log" for file in folder.iterdir())


class NewFolder:
    """Remembers what stands before a run, so that nothing else is removed after it.

    The name of a run's folder has the time in it. So the folder can have another name than expected, but beside it.

    Args:
        expected: the run's folder, before Hydra makes it.
    """

    def __init__(self, expected: str | Path):
        self.parent = Path(expected).absolute().parent
        self.stood = set(self.parent.iterdir()) if self.parent.is_dir() else set()
        self.stood |= {folder for folder in (self.parent, *self.parent.parents) if folder.exists()}

    def remove(self, folder: str | Path) -> None:
        """Removes the run's folder, and the folders above it that are empty then; only those that did not stand before.

        A folder that holds more than Hydra's own config and log stays. So does one in another place than expected.
        """
        folder = Path(folder).absolute()
        if folder.parent != self.parent or folder in self.stood or not folder.is_dir() or not holds_only_logs(folder):
            return
        shutil.rmtree(folder)
        for above in folder.parents:
            if above in self.stood or any(above.iterdir()):
                return
            above.rmdir()
