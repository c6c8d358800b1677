"""Memory does not grow with the length of a video."""

import resource
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from interp_refiner.data import Cut, ShardDataset, VideoEncoder, find_videos
from interp_refiner.data.codec import Codec
from interp_refiner.data.text import CaptionEncoder
from tests import clean_processes

HEIGHT, WIDTH = 480, 832
HOUR = 3600 * 16  # frames


class Pooled(Codec):
    """Means over 16 x 16 pixels: latents that need little room."""

    name = "pooled"

    def __init__(self):
        super().__init__(1, 16, False, 3, [0.5] * 3, [0.3] * 3)

    def transform(self, video):
        return torch.nn.functional.avg_pool3d(video, (1, 16, 16))

    def inverse(self, latents):
        return latents.repeat_interleave(16, -1).repeat_interleave(16, -2)


def film(path: Path, frames: int) -> None:
    """A bright bar that wanders over grey."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=16)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 1_000_000
        picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        for number in range(frames):
            shown = picture.copy()
            shown[:, number % (WIDTH - 32) : number % (WIDTH - 32) + 32] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())


def encode(folder: Path, frames: int) -> None:
    """Encodes two videos and writes down the most memory that the process had, in MB."""
    (folder / "videos").mkdir(parents=True)
    film(folder / "videos" / "a.mp4", frames)
    shutil.copy(folder / "videos" / "a.mp4", folder / "videos" / "b.mp4")
    cut = Cut(held_out_end=0.1, held_out_videos=0.0, shot_change=None)
    encoder = VideoEncoder(Pooled(), CaptionEncoder(4, 8), cut)
    encoder.write(find_videos(folder / "videos"), folder / "set")
    (folder / "peak").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000))


def peak(folder: Path, frames: int) -> float:
    process = clean_processes.start(encode, folder, frames)
    process.join()
    assert process.exitcode == 0
    clips = sum(len(ShardDataset(folder / "set" / split)) for split in ("train", "val"))
    assert clips == 2 * (-(-(frames - round(0.1 * frames)) // 81) + -(-round(0.1 * frames) // 81))
    return float((folder / "peak").read_text())


@pytest.mark.soak
def test_an_hour_needs_no_more_memory_than_a_minute_and_less_than_four_gigabytes(tmp_path: Path) -> None:
    minute, hour = peak(tmp_path / "minute", HOUR // 60), peak(tmp_path / "hour", HOUR)
    print(f"peak memory: {minute:.0f} MB for a minute, {hour:.0f} MB for an hour")
    assert hour < 4000
    assert hour < 1.1 * minute
