"""Synthetic data sets: written once, identified by a fingerprint of their settings."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from hashlib import blake2b
from json import dumps
from pathlib import Path
from typing import Any, ClassVar

from tqdm import tqdm

from interp_refiner.core import BadValue
from interp_refiner.data.shards import DATASET_FILE, DatasetMetadata, Sample, write_shards


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
        text = dumps(self.settings | {"version": self.version}, sort_keys=True)
        return blake2b(text.encode(), digest_size=6).hexdigest()

    def write(self, root: Path) -> None:
        """Writes both splits; returns at once if they exist already.

        Raises:
            BadValue: ``root`` holds a set with other settings; both fingerprints are named.
        """
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
        how = {"generator": self.name, "version": self.version, **self.settings}
        return {**how, "split": split, "fingerprint": self.fingerprint}

    def _stands(self, folder: Path) -> bool:
        """Whether the folder holds this data set's split; refuses another's. Folders appear complete or not at all."""
        if not (folder / DATASET_FILE).is_file():
            return False
        made_by = DatasetMetadata.load(folder).made_by
        if (found := made_by.get("fingerprint")) != self.fingerprint:
            wanted = self.settings | {"version": self.version}
            names = [name for name in {**wanted, **made_by} if name not in ("generator", "split", "fingerprint")]
            there, asked = ({name: source.get(name, "default") for name in names} for source in (made_by, wanted))
            other = ", ".join(f"{k}={there[k]} instead of {asked[k]}" for k in names if there[k] != asked[k])
            allowed = f"an empty folder or {self.name.replace('_', ' ')} of fingerprint {self.fingerprint}"
            raise BadValue("root", folder, f"{allowed}, it holds fingerprint {found} ({other})")
        return True
