"""A data set of random numbers in the shapes of a real one, for benchmarks without data."""

from collections.abc import Iterator, Sequence
from typing import Any, final

import torch

from interp_refiner.core import at_least, derived_seed
from interp_refiner.data.generated import Generated
from interp_refiner.data.shards import DatasetMetadata, Sample
from interp_refiner.data.wan_synth import wan_synth_metadata


@final
class RandomClips(Generated):
    """Writes ``<root>/train`` and ``<root>/val``: shards whose latents and prompt embeddings are standard normal.

    Args:
        num_train, num_val: clips in each split.
        latent_shape: ``[C, T, H, W]`` of one clip.
        text_shape: ``[L, D]`` of its prompt embeddings; None for none.
        seed: of the numbers.

    Raises:
        BadValue: fewer than one clip.
    """

    name = "random_clips"
    version = 1
    unit = "clip"

    def __init__(
        self,
        num_train: int = 16,
        num_val: int = 4,
        latent_shape: Sequence[int] = (16, 21, 60, 104),
        text_shape: Sequence[int] | None = (512, 4096),
        seed: int = 0,
    ):
        at_least(1, num_train=num_train, num_val=num_val)
        self.shapes = list(latent_shape), list(text_shape) if text_shape is not None else None
        self.latent_shape = tuple(latent_shape)
        shapes = {"latent_shape": self.shapes[0], "text_shape": self.shapes[1]}
        super().__init__({"num_train": num_train, "num_val": num_val, **shapes, "seed": seed})

    def declare(self, made_by: dict[str, Any]) -> DatasetMetadata:
        return wan_synth_metadata(*self.shapes, made_by=made_by)

    def samples(self, split: str, count: int) -> Iterator[Sample]:
        latent_shape, text_shape = self.shapes
        for number in range(count):
            key = f"{split}-{number:06d}"
            generator = torch.Generator().manual_seed(derived_seed(self.seed, key))
            latents = torch.randn(latent_shape, generator=generator)
            text = torch.randn(text_shape, generator=generator) if text_shape is not None else None
            yield Sample(key, latents, text, "noise")
