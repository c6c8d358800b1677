"""Synthetic data sets: written once, identified by a fingerprint of their settings."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tqdm import tqdm

from interp_refiner.config import writable_folder
from interp_refiner.core import BadValue
from interp_refiner.data.settings import difference, fingerprint
from interp_refiner.data.shards import DATASET_FILE, DatasetMetadata, Sample, write_shards

EXISTING = "data=wan_synth reads existing shards"


class Generated(ABC):
    """Writes ``<root>/train`` and ``<root>/val`` as shards.

    A sample is a function of (seed, split, number) alone. So a set with fewer samples contains the first samples of a
    larger one.

    Args:
        settings: everything that determines the samples: ``num_train``, ``num_val``, ``seed`` and more.

    Attributes:
        name: the generator's name in ``dataset.json``.
        version: increase it whenever the same settings give other samples.
        unit: the word for one sample in messages.
    """

    name: ClassVar[str]
    version: int
    unit: ClassVar[str]

    def __init__(self, settings: dict[str, Any]):
        self.settings, self.seed = settings, settings["seed"]
        self.counts: dict[str, int] = {"train": settings["num_train"], "val": settings["num_val"]}

    @abstractmethod
    def samples(self, split: str, count: int) -> Iterator[Sample]:
        """The first ``count`` samples of a split."""

    @abstractmethod
    def declare(self, made_by: dict[str, Any]) -> DatasetMetadata:
        """The metadata of both splits."""

    @property
    def fingerprint(self) -> str:
        """A hash of the settings and the generator's version."""
        return fingerprint(self._identity)

    @property
    def _identity(self) -> dict[str, Any]:
        return {**self.settings, "version": self.version}

    def write(self, root: Path) -> None:
        """Writes both splits; returns at once if they exist already.

        Raises:
            BadValue: ``root`` holds something else, or a set with other settings; both fingerprints are named.
        """
        refuse_foreign(root, list(self.counts))
        missing = [split for split in self.counts if not self._stands(root / split)]
        if not missing:
            return
        total, title = sum(self.counts[split] for split in missing), self.name.replace("_", " ")
        with tqdm(total=total, desc=title, unit=self.unit) as progress:
            for split in missing:
                write_shards(root / split, self._counted(split, progress), self.declare(self._made_by(split)))

    def _counted(self, split: str, progress: "tqdm[Any]") -> Iterator[Sample]:
        for sample in self.samples(split, self.counts[split]):
            yield sample
            progress.update()

    def _made_by(self, split: str) -> dict[str, Any]:
        how = {"generator": self.name, **self._identity}
        return {**how, "split": split, "fingerprint": self.fingerprint}

    def _stands(self, folder: Path) -> bool:
        """Whether the folder holds this data set's split; refuses another's. Folders appear complete or not at all."""
        if not (folder / DATASET_FILE).is_file():
            return False
        made_by, title = DatasetMetadata.load(folder).made_by, self.name.replace("_", " ")
        if (found := made_by.pop("generator", None)) != self.name:
            raise BadValue("root", folder, f"an empty folder or {title}, it holds {found or 'other clips'}; {EXISTING}")
        if (found := made_by.get("fingerprint")) != self.fingerprint:
            if found is None:
                raise BadValue("root", folder, "clips of this version; an older version wrote these: delete the folder")
            settings = {name: value for name, value in made_by.items() if name not in ("split", "fingerprint")}
            allowed = f"an empty folder or {title} of fingerprint {self.fingerprint}, it holds fingerprint {found}"
            raise BadValue("root", folder, f"{allowed} ({difference(settings, self._identity)})")
        return True


def refuse_foreign(root: Path, splits: Sequence[str]) -> None:
    """Refuses a root that cannot be a folder, holds shards itself, or has other files in the folder of a split."""
    if all((root / split / DATASET_FILE).is_file() for split in splits):
        return
    for folder, written in [(root, False), *((root / split, True) for split in splits)]:
        writable_folder("root", folder)
        files = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        found = next((name for name in files if written or name.endswith(".tar")), None)
        if found is not None and not (written and (folder / DATASET_FILE).is_file()):
            raise BadValue("root", folder, f"an empty folder to write clips to, it holds {found}; {EXISTING}")
