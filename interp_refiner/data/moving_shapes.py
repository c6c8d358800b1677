"""The embedded data set: moving shapes with captions, rendered once and written as real Wan-synth shards."""

from collections.abc import Iterator
from hashlib import blake2b
from json import dumps
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from interp_refiner.codec.patch_dct import PatchDCT
from interp_refiner.core import BadValue, Draws
from interp_refiner.data.scene import BRIGHTNESS, DIRECTIONS, SHAPES, Scene, draw_scenes, render
from interp_refiner.data.shards import DATASET_FILE, DatasetMetadata, Sample, write_shards
from interp_refiner.text import CaptionEncoder

VERSION = 1  # of the pictures: raise it whenever scenes, codec or captions change
FPS = 8.0
SMALLEST_SIDE = 16  # the largest shape at the highest speed still has room to turn back
CHUNK = 16  # clips rendered at a time: few enough for the processor's cache
STATISTICS_CLIPS = 512  # training clips that the latents' mean and deviation are estimated from


def captions(scene: Scene) -> list[str]:
    """``"bright circle moving left and dark square moving up"``: every object, from the hindmost to the foremost."""
    columns = (scene.present, scene.brightness, scene.shape, scene.first_direction)
    return [
        " and ".join(
            f"{BRIGHTNESS[b]} {SHAPES[s]} moving {DIRECTIONS[d]}" for p, b, s, d in zip(*row, strict=True) if p
        )
        for row in zip(*(column.tolist() for column in columns), strict=True)
    ]


@final
class MovingShapes:
    """Writes ``<root>/train`` and ``<root>/val``: ``patch_dct`` latents of one to three moving shapes, with captions.

    A clip is a function of (seed, split, number) alone, so a smaller set is the beginning of a larger one.

    Args:
        num_train, num_val: clips in either split; their random numbers are disjoint.
        num_frames: of every clip.
        height, width: pixels, divisible by 4.
        seed: of the whole set.

    Raises:
        BadValue: a count below 1, fewer than 2 frames, or a size that is too small or not divisible by 4.
    """

    def __init__(
        self,
        num_train: int = 2000,
        num_val: int = 256,
        num_frames: int = 21,
        height: int = 32,
        width: int = 56,
        seed: int = 0,
    ):
        least = {"num_train": 1, "num_val": 1, "num_frames": 2, "height": SMALLEST_SIDE, "width": SMALLEST_SIDE}
        self.settings = {
            "num_train": num_train,
            "num_val": num_val,
            "num_frames": num_frames,
            "height": height,
            "width": width,
            "seed": seed,
        }
        for name, minimum in least.items():
            if self.settings[name] < minimum:
                raise BadValue(name, self.settings[name], f"at least {minimum}")
        self.size = num_frames, height, width
        self.counts = {"train": num_train, "val": num_val}
        self.seed = seed
        self.codec = PatchDCT()
        self.text = CaptionEncoder()
        self.latent_shape = self.codec.latent_size(*self.size)

    @property
    def fingerprint(self) -> str:
        """Of the settings and the renderer's version."""
        return _fingerprint(self.settings | {"version": VERSION})

    def write(self, root: Path) -> None:
        """Writes both splits; returns at once where they stand already.

        Raises:
            BadValue: ``root`` holds a set with other settings; both fingerprints are named.
        """
        missing = [split for split in self.counts if not self._stands(root / split)]
        if not missing:
            return
        mean, std = self._statistics()
        codec = PatchDCT(mean.tolist(), std.tolist())
        with tqdm(total=sum(self.counts[split] for split in missing), desc="moving shapes", unit="clip") as progress:
            for split in missing:
                write_shards(root / split, self._samples(split, codec, progress), self._metadata(split, mean, std))

    def clips(self, split: str, count: int) -> Iterator[tuple[list[str], list[str], Float[Tensor, "b 3 t h w"]]]:
        """The first ``count`` clips of a split in chunks: keys, captions and RGB video in 0..1."""
        keys = [f"{split}-{number:06d}" for number in range(count)]
        for start in range(0, count, CHUNK):
            chunk = keys[start : start + CHUNK]
            scene = draw_scenes(Draws(self.seed, split, chunk), *self.size)
            yield chunk, captions(scene), render(scene, *self.size[1:])

    def _samples(self, split: str, codec: PatchDCT, progress: "tqdm[Any]") -> Iterator[Sample]:
        for keys, prompts, video in self.clips(split, self.counts[split]):
            rows = zip(keys, codec.encode(video), self.text.encode(prompts), prompts, strict=True)
            for key, latents, text, prompt in rows:
                yield Sample(key, latents, text, prompt)
                progress.update()

    def _statistics(self) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
        """Per-channel mean and standard deviation of the raw latents of the first training clips."""
        moments, count = torch.zeros(2, self.codec.latent_channels, dtype=torch.float64), 0
        for _, _, video in self.clips("train", min(self.counts["train"], STATISTICS_CLIPS)):
            raw = self.codec.transform(video).double().transpose(0, 1).flatten(1)
            moments += torch.stack([raw.sum(1), raw.square().sum(1)])
            count += raw.shape[1]
        mean, square = moments / count
        return mean, (square - mean.square()).sqrt()

    def _metadata(self, split: str, mean: Tensor, std: Tensor) -> DatasetMetadata:
        return DatasetMetadata(
            latent_shape=self.latent_shape,
            text_shape=(self.text.length, self.text.dim),
            text=self.text.describe(),
            codec=self.codec.describe(),
            latents_mean=mean.tolist(),
            latents_std=std.tolist(),
            normalised=True,
            fps=FPS,
            made_by={
                "generator": "moving_shapes",
                "version": VERSION,
                **self.settings,
                "split": split,
                "fingerprint": self.fingerprint,
            },
        )

    def _stands(self, folder: Path) -> bool:
        """Whether this set's split is there; refuses another's. Folders appear whole or not at all."""
        if not (folder / DATASET_FILE).is_file():
            return False
        made_by = DatasetMetadata.load(folder).made_by
        if (found := made_by.get("fingerprint")) != self.fingerprint:
            wanted = self.settings | {"version": VERSION}
            other = ", ".join(f"{k}={made_by.get(k)} instead of {v}" for k, v in wanted.items() if made_by.get(k) != v)
            allowed = f"an empty folder or moving shapes of fingerprint {self.fingerprint}"
            raise BadValue("root", folder, f"{allowed}, it holds fingerprint {found} ({other})")
        return True


def _fingerprint(settings: dict[str, Any]) -> str:
    return blake2b(dumps(settings, sort_keys=True).encode(), digest_size=6).hexdigest()
