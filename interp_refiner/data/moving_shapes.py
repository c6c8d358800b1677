"""The embedded data set: moving shapes with captions, rendered once and written as real Wan-synth shards."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Draws
from interp_refiner.data.captions import Captions, FirstDirection
from interp_refiner.data.codec.patch_dct import PatchDCT
from interp_refiner.data.generated import Generated
from interp_refiner.data.scene import MAX_OBJECTS, Scene, draw_scenes, render
from interp_refiner.data.shards import DatasetMetadata, Sample
from interp_refiner.data.text import CaptionEncoder

FPS = 8.0
SMALLEST_SIDE = 16  # the largest shape at the highest speed still has room to turn back
CHUNK = 16  # clips rendered at a time: few enough for the processor's cache
BEFORE = {"captions": FirstDirection.__name__, "max_objects": MAX_OBJECTS}
STATISTICS_CLIPS = 512  # training clips that the latents' mean and deviation are estimated from


@final
class MovingShapes(Generated):
    """``patch_dct`` latents of one to three moving shapes, with captions.

    Args:
        num_train, num_val: clips in either split; their random numbers are disjoint.
        num_frames: of every clip.
        height, width: pixels, divisible by 4.
        seed: of the whole set.
        captions: what they say; None for where every object sets out to.
        max_objects: of a clip, 1 to 3.

    Raises:
        BadValue: a count below 1, fewer than 2 frames, a size that is too small or not divisible by 4, or more than 3
            objects.
    """

    name = "moving_shapes"
    version = 1  # raise it whenever scenes, codec or captions change
    unit = "clip"

    def __init__(
        self,
        num_train: int = 2000,
        num_val: int = 256,
        num_frames: int = 21,
        height: int = 32,
        width: int = 56,
        seed: int = 0,
        captions: Captions | None = None,
        max_objects: int = MAX_OBJECTS,
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
        if not 1 <= max_objects <= MAX_OBJECTS:
            raise BadValue("max_objects", max_objects, f"1 to {MAX_OBJECTS}")
        self.captions, self.max_objects = captions or FirstDirection(), max_objects
        # later settings count only where they are not what there was before them: old sets keep their fingerprint
        later = {"captions": type(self.captions).__name__, "max_objects": max_objects}
        self.settings |= {name: value for name, value in later.items() if value != BEFORE[name]}
        self.size = num_frames, height, width
        self.codec = PatchDCT()
        self.text = CaptionEncoder(length=self.captions.words)
        self.latent_shape = self.codec.latent_size(*self.size)

    def clips(self, split: str, count: int) -> Iterator[tuple[list[str], list[str], Float[Tensor, "b 3 t h w"]]]:
        """The first ``count`` clips of a split in chunks: keys, captions and RGB video in 0..1."""
        keys = [f"{split}-{number:06d}" for number in range(count)]
        for start in range(0, count, CHUNK):
            chunk = keys[start : start + CHUNK]
            scene = self.scenes(split, chunk)
            yield chunk, self.captions(scene), render(scene, *self.size[1:])

    def scenes(self, split: str, keys: Sequence[str]) -> Scene:
        """What the clips of a split show."""
        return draw_scenes(Draws(self.seed, split, keys), *self.size, self.max_objects)

    def samples(self, split: str, count: int) -> Iterator[Sample]:
        mean, std = (moment.tolist() for moment in self.statistics)
        codec = PatchDCT(mean, std)
        for keys, prompts, video in self.clips(split, count):
            rows = zip(keys, codec.encode(video), self.text.encode(prompts), prompts, strict=True)
            yield from (Sample(key, latents, text, prompt) for key, latents, text, prompt in rows)

    @cached_property
    def statistics(self) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
        """Per-channel mean and standard deviation of the raw latents of the first training clips."""
        moments, count = torch.zeros(2, self.codec.latent_channels, dtype=torch.float64), 0
        for _, _, video in self.clips("train", min(self.counts["train"], STATISTICS_CLIPS)):
            raw = self.codec.transform(video).double().transpose(0, 1).flatten(1)
            moments += torch.stack([raw.sum(1), raw.square().sum(1)])
            count += raw.shape[1]
        mean, square = moments / count
        return mean, (square - mean.square()).sqrt()

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
