"""A data set of random numbers in the shapes of a real one, for benchmarks without data."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

import torch

from interp_refiner.core import BadValue, derived_seed
from interp_refiner.data.shards import DATASET_FILE, DatasetMetadata, Sample, write_shards
from interp_refiner.data.wan_synth import wan_synth_metadata


@final
class RandomClips:
    """Writes ``<root>/train`` and ``<root>/val``: shards whose latents and prompt embeddings are standard normal.

    Args:
        num_train, num_val: clips in each split.
        latent_shape: ``[C, T, H, W]`` of one clip.
        text_shape: ``[L, D]`` of its prompt embeddings; None for none.
        seed: of the numbers.

    Raises:
        BadValue: fewer than one clip.
    """

    def __init__(
        self,
        num_train: int = 16,
        num_val: int = 4,
        latent_shape: Sequence[int] = (16, 21, 60, 104),
        text_shape: Sequence[int] | None = (512, 4096),
        seed: int = 0,
    ):
        for name, count in {"num_train": num_train, "num_val": num_val}.items():
            if count < 1:
                raise BadValue(name, count, "at least 1")
        self.counts = {"train": num_train, "val": num_val}
        self.latent_shape, self.text_shape, self.seed = latent_shape, text_shape, seed

    def write(self, root: Path) -> None:
        """Writes the missing splits.

        Raises:
            BadValue: ``root`` holds clips of another shape.
        """
        metadata = wan_synth_metadata(
            self.latent_shape, self.text_shape, made_by={"generator": "random_clips", "seed": self.seed}
        )
        for split in self.counts:
            if not (root / split / DATASET_FILE).is_file():
                write_shards(root / split, self._samples(split, metadata), metadata)
            found = DatasetMetadata.load(root / split)
            if (found.latent_shape, found.text_shape) != (metadata.latent_shape, metadata.text_shape):
                shapes = f"{list(found.latent_shape)} and text {found.text_shape}"
                raise BadValue("root", root, f"another folder: it holds clips {shapes}")

    def _samples(self, split: str, metadata: DatasetMetadata) -> Iterator[Sample]:
        for number in range(self.counts[split]):
            key = f"{split}-{number:06d}"
            generator = torch.Generator().manual_seed(derived_seed(self.seed, key))
            latents = torch.randn(metadata.latent_shape, generator=generator)
            text = torch.randn(metadata.text_shape, generator=generator) if metadata.text_shape else None
            yield Sample(key, latents, text, "noise")
