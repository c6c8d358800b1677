"""Clips of several sizes: one folder of shards per size (a bucket), read as one data set."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from math import prod
from typing import final

from torch import Tensor

from interp_refiner.core import BadValue, ClipSpec, parse_stored
from interp_refiner.data.dataset import ShardDataset
from interp_refiner.data.shards import BUCKETS_FILE, BadSample, DatasetMetadata, Storage, Underway


@final
class MixedDataset:
    """Data sets that differ only in clip size, as one; the samples of the largest clips have the first numbers.

    Args:
        buckets: the data sets.

    Attributes:
        metadata: of the largest clips.

    Raises:
        BadValue: they differ in more than clip size.
    """

    def __init__(self, buckets: Sequence[ShardDataset]):
        self.parts = sorted(buckets, key=lambda part: (-prod(part.metadata.latent_shape), part.storage.name))
        self._stops = list(accumulate(map(len, self.parts)))
        self.metadata: DatasetMetadata = self.parts[0].metadata
        self.underway = Underway()
        for part in self.parts:
            part.underway = self.underway
        self.storage, self.on_bad_sample = self.parts[0].storage, self.parts[0].on_bad_sample
        for part in self.parts[1:]:
            same = replace(
                part.metadata, latent_shape=self.metadata.latent_shape, num_samples=self.metadata.num_samples
            )
            for name in ("latent_dtype", "text_shape", "codec", "latents_mean", "latents_std", "normalised", "made_by"):
                if (found := getattr(same, name)) != (wanted := getattr(self.metadata, name)):
                    raise BadValue(name, found, f"{wanted} in {part.storage.name} as in {self.storage.name}")

    def __len__(self) -> int:
        return self._stops[-1]

    @property
    def buckets(self) -> list[range]:
        """The sample numbers of every clip size."""
        return [range(stop - len(part), stop) for part, stop in zip(self.parts, self._stops, strict=True)]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of latents, one per bucket."""
        return [part.metadata.latent_shape for part in self.parts]

    @property
    def num_shards(self) -> int:
        return sum(part.num_shards for part in self.parts)

    def locate(self, sample: int) -> tuple[ShardDataset, int]:
        """The data set that holds a sample, and the sample's number in it."""
        part = bisect_right(self._stops, sample)
        return self.parts[part], sample - self._stops[part] + len(self.parts[part])

    def key(self, sample: int) -> str:
        """The sample's name, unique in the data set."""
        part, number = self.locate(sample)
        return part.key(number)

    def where(self, sample: int) -> tuple[str, str]:
        """The shard and the key of a sample, for messages."""
        part, number = self.locate(sample)
        return part.where(number)

    def read_into(
        self,
        sample: int,
        latents: Tensor,
        text: Tensor | None,
        context: Tensor | None = None,
        epoch: int | None = None,
    ) -> str:
        """See :meth:`ShardDataset.read_into`."""
        part, number = self.locate(sample)
        return part.read_into(number, latents, text, context, epoch)

    def not_finite(self, key: str, kind: str) -> BadSample:
        """See :meth:`ShardDataset.not_finite`."""
        return next(part for part in self.parts if key in part.index.keys).not_finite(key, kind)

    def subset(self, samples: Sequence[int]) -> "MixedDataset":
        """The data set of these samples only, numbered from 0."""
        of_part = [[sample - rows.start for sample in samples if sample in rows] for rows in self.buckets]
        return MixedDataset([part.subset(some) for part, some in zip(self.parts, of_part, strict=True) if some])

    def close(self) -> None:
        """Closes the files; reading opens them again."""
        for part in self.parts:
            part.close()


Dataset = ShardDataset | MixedDataset


def mixed(buckets: Sequence[ShardDataset]) -> Dataset:
    """The data sets as one; a single data set is returned as it is."""
    return buckets[0] if len(buckets) == 1 else MixedDataset(buckets)


def bucket_names(storage: Storage) -> list[str]:
    """The subfolders, one per clip size, that ``buckets.json`` lists; empty if there is one size.

    Raises:
        BadValue: the file is damaged, or holds anything but names of subfolders.
    """
    if (content := storage.read_file(BUCKETS_FILE)) is None:
        return []
    where = f"{storage.name}/{BUCKETS_FILE}"
    names = parse_stored("root", where, content, list)
    if not all(isinstance(name, str) and name not in ("", ".", "..") and "/" not in name for name in names):
        raise BadValue("root", where, f"a list of names of subfolders, it holds {names}")
    return names


def spec_of(dataset: Dataset) -> ClipSpec:
    """Shapes and statistics of the clips, for other parts of the project."""
    return replace(dataset.metadata.spec, other_shapes=tuple(dataset.shapes[1:]))
