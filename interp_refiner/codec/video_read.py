"""Video files to frames of one size."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation
from jaxtyping import UInt8
from torch import Tensor

VIDEO_SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm")


TICK = 1e-6  # seconds, below any time base


class UnreadableVideo(ValueError):
    """A file is no video, or a damaged one; says why."""


def read_video(
    path: Path | str, height: int, width: int, fps: float | None = None, max_frames: int | None = None
) -> UInt8[Tensor, "t h w 3"]:
    """RGB frames, scaled to cover ``height x width`` and cropped to its middle.

    Args:
        path: of the file.
        height, width: of the frames.
        fps: frames a second, by repeating or leaving out frames; None takes all of them as they are.
        max_frames: the first so many; None for all.

    Raises:
        UnreadableVideo: the file cannot be opened, holds no picture, or ends in the middle of one.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UnreadableVideo("it has no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            frames = [_covering(f, height, width) for f in at_rate(container.decode(stream), fps, max_frames)]
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(getattr(error, "strerror", None) or str(error)) from error
    if not frames:
        raise UnreadableVideo("it has no frames")
    return torch.from_numpy(np.stack(frames))


def at_rate(frames: Iterator[av.VideoFrame], fps: float | None, limit: int | None) -> Iterator[av.VideoFrame]:
    """The frame that is shown at ``k / fps`` after the first one, for every k; at most ``limit``. None: as they are."""
    return islice(frames if fps is None else _shown_at(frames, fps), limit)


def _shown_at(frames: Iterator[av.VideoFrame], fps: float) -> Iterator[av.VideoFrame]:
    count, elapsed, start = 0, 0.0, None
    last: av.VideoFrame | None = None
    for frame in frames:
        time = frame.time or 0.0
        start = time if start is None else start
        elapsed = time - start
        while last is not None and count / fps < elapsed - TICK:
            yield last
            count += 1
        last = frame
    if last is not None and count / fps < elapsed + TICK:
        yield last


def _covering(frame: av.VideoFrame, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    scale = max(height / frame.height, width / frame.width)
    high, wide = (max(round(size * scale), least) for size, least in ((frame.height, height), (frame.width, width)))
    pixels = frame.reformat(wide, high, "rgb24", interpolation=Interpolation.AREA).to_ndarray()
    top, left = (high - height) // 2, (wide - width) // 2
    return pixels[top : top + height, left : left + width]
