"""Measures what ``dataset.json`` declares about all clips, before they are encoded."""

import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from interp_refiner.core import BadValue, derived_seed
from interp_refiner.data.codec import Codec, still_gap
from interp_refiner.data.preparation.cut import Cut, as_videos
from interp_refiner.data.preparation.decoding import Shown, decoded
from interp_refiner.data.preparation.shot import Pixels
from interp_refiner.data.preparation.videos import Video

# the statistics are estimated from at most so many videos, and so many clips of each
STATISTICS_VIDEOS, STATISTICS_CLIPS = 64, 64


@dataclass(frozen=True)
class Survey:
    """Measures the latents of some videos.

    Attributes:
        codec: makes the latents, on its own device.
        cut: how videos become clips.
    """

    codec: Codec
    cut: Cut

    def statistics(self, videos: Sequence[Video]) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of every channel: the codec's own, else estimated from some training clips."""
        if self.codec.has_statistics:
            return self.codec.latents_mean.tolist(), self.codec.latents_std.tolist()
        total = torch.zeros(self.codec.latent_channels, 3, dtype=torch.float64)
        chosen = sorted(videos, key=lambda video: derived_seed("statistics", video.key))[:STATISTICS_VIDEOS]
        faults: dict[str, str] = {}
        for video in tqdm(chosen, desc="statistics", unit="video", mininterval=interval()):
            with closing(self._clips([video], faults)) as clips:
                for split, clip in islice(clips, STATISTICS_CLIPS):
                    if split == "train":
                        total += moments(self.codec.transform(self._video(clip))).cpu()
        if not total[:, 0].all():
            raise _nothing_to_read(chosen, faults, "is not held out")
        mean = total[:, 1] / total[:, 0]
        return mean.tolist(), (total[:, 2] / total[:, 0] - mean.square()).clamp(min=1e-12).sqrt().tolist()

    def still_gap(self, videos: Sequence[Video]) -> dict[str, list[float]]:
        """:func:`still_gap` of the first clip, by mode of encoding and latent frame."""
        faults: dict[str, str] = {}
        with closing(self._clips(videos, faults)) as clips:
            if (first := next(clips, None)) is None:
                raise _nothing_to_read(videos, faults, "is long enough")
            gap = still_gap(self.codec, self._video(first[1]))
        return {mode: [round(value, 4) for value in distance.tolist()] for mode, distance in gap.items()}

    def _video(self, clip: Pixels) -> Float[Tensor, "1 3 t h w"]:
        return as_videos([clip], self.codec.latents_mean.device)

    def _clips(self, videos: Sequence[Video], faults: dict[str, str]) -> Generator[tuple[str, Pixels]]:
        """Yields (split, clip) of some videos; adds unreadable videos to ``faults``."""
        with closing(decoded(self.cut, videos, threads=1)) as items:
            for video, item in items:
                if isinstance(item, Shown):
                    yield item.piece.split, item.piece.pixels
                elif item.fault:
                    faults[video.name] = item.fault


def moments(raw: Float[Tensor, "1 c t h w"]) -> Float[Tensor, "c 3"]:
    """Count, sum and sum of squares of every channel. Summed over clips they give mean and standard deviation."""
    values = raw.double().squeeze(0).flatten(1)
    return torch.stack([torch.full_like(values[:, 0], values.shape[1]), values.sum(1), values.square().sum(1)], 1)


def _nothing_to_read(videos: Sequence[Video], faults: dict[str, str], wanted: str) -> BadValue:
    first = next((f"; {name}: {reason}" for name, reason in faults.items()), "")
    return BadValue("source", f"{len(videos)} videos", f"at least one that can be read and {wanted}{first}")


def interval() -> float:
    """Seconds between two updates of a progress bar; a log file gets fewer."""
    return 0.2 if sys.stderr.isatty() else 10.0
