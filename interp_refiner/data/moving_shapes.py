"""The embedded data set: moving shapes with captions, rendered once and written as real Wan-synth shards."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Draws
from interp_refiner.data.codec.patch_dct import PatchDCT, channel_scales
from interp_refiner.data.generated import Generated
from interp_refiner.data.shards import DatasetMetadata, Sample
from interp_refiner.data.text import CaptionEncoder
from interp_refiner.data.world import Gliding, Scene, World, render

FPS = 8.0
SMALLEST_SIDE = 16  # room for the largest shape at the highest speed to turn back
CHUNK = 16  # clips rendered at a time, so that they fit into the processor's cache
STATISTICS_CLIPS = 512  # the latents' mean and deviation are estimated from so many training clips


@final
class MovingShapes(Generated):
    """``patch_dct`` latents of one to three moving shapes, with captions.

    Args:
        num_train, num_val: clips in each split; the splits use different random numbers.
        num_frames: frames of every clip.
        height, width: in pixels, divisible by 4.
        seed: of the whole set.
        world: draws the scenes and their captions; None for :class:`Gliding`.

    Raises:
        BadValue: a count below 1, fewer than 2 frames, or a size that is too small or not divisible by 4.
    """

    name = "moving_shapes"
    unit = "clip"

    def __init__(
        self,
        num_train: int = 2000,
        num_val: int = 256,
        num_frames: int = 21,
        height: int = 32,
        width: int = 56,
        seed: int = 0,
        world: World | None = None,
    ):
        least = {"num_train": 1, "num_val": 1, "num_frames": 2, "height": SMALLEST_SIDE, "width": SMALLEST_SIDE}
        settings = {
            "num_train": num_train,
            "num_val": num_val,
            "num_frames": num_frames,
            "height": height,
            "width": width,
            "seed": seed,
        }
        super().__init__(settings)
        for name, minimum in least.items():
            if settings[name] < minimum:
                raise BadValue(name, settings[name], f"at least {minimum}")
        self.world = world or Gliding()
        self.version = self.world.version
        self.settings |= self.world.settings()
        self.size = num_frames, height, width
        self.codec = PatchDCT()
        captions = self.world.captions
        self.text = CaptionEncoder(length=captions.words, vocabulary=captions.vocabulary)
        self.latent_shape = self.codec.latent_size(*self.size)

    def clips(self, split: str, count: int) -> Iterator[tuple[list[str], list[str], Float[Tensor, "b 3 t h w"]]]:
        """The first ``count`` clips of a split in chunks: keys, captions and RGB video in 0..1."""
        keys = [f"{split}-{number:06d}" for number in range(count)]
        for start in range(0, count, CHUNK):
            chunk = keys[start : start + CHUNK]
            scene = self.scenes(split, chunk)
            yield chunk, self.world.captions(scene), render(scene)

    def scenes(self, split: str, keys: Sequence[str]) -> Scene:
        """The scenes of a split's clips."""
        return self.world.draw(Draws(self.seed, split, keys), *self.size)

    def samples(self, split: str, count: int) -> Iterator[Sample]:
        mean, std = (moment.tolist() for moment in self.statistics)
        codec = PatchDCT(mean, std)
        for keys, prompts, video in self.clips(split, count):
            rows = zip(keys, codec.encode(video), self.text.encode(prompts), prompts, strict=True)
            yield from (Sample(key, latents, text, prompt) for key, latents, text, prompt in rows)

    @cached_property
    def statistics(self) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
        """Per-channel mean and scale that normalise the stored latents.

        Estimated from the first training clips; the scale follows from the standard deviation by
        :func:`channel_scales`.
        """
        moments, count = torch.zeros(2, self.codec.latent_channels, dtype=torch.float64), 0
        for _, _, video in self.clips("train", min(self.counts["train"], STATISTICS_CLIPS)):
            raw = self.codec.transform(video).double().transpose(0, 1).flatten(1)
            moments += torch.stack([raw.sum(1), raw.square().sum(1)])
            count += raw.shape[1]
        mean, square = moments / count
        return mean, channel_scales((square - mean.square()).sqrt(), self.world.max_gain)

    def declare(self, made_by: dict[str, Any]) -> DatasetMetadata:
        mean, std = (moment.tolist() for moment in self.statistics)
        return DatasetMetadata(
            latent_shape=self.latent_shape,
            text_shape=(self.text.length, self.text.dim),
            text=self.text.describe(),
            codec=self.codec.describe(),
            latents_mean=mean,
            latents_std=std,
            normalised=True,
            fps=FPS,
            made_by=made_by,
        )
