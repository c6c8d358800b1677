"""Video files to frames of one size."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

VIDEO_SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm")
TICK = 1e-6  # seconds, below any time base


class UnreadableVideo(ValueError):
    """A file is no video, or a damaged one; says why."""


def read_video(
    path: Path | str, height: int, width: int, fps: float | None = None, max_frames: int | None = None
) -> UInt8[Tensor, "t h w 3"]:
    """RGB frames as a player shows them, scaled to cover ``height x width`` and cropped to its middle.

    Args:
        path: of the file.
        height, width: of the frames.
        fps: frames a second, by repeating or leaving out frames; None takes all of them as they are.
        max_frames: the first so many; None for all.

    Raises:
        UnreadableVideo: the file cannot be opened, holds no picture, or ends in the middle of one.
    """
    try:
        with opened(path) as (container, stream):
            stream.thread_type = "AUTO"
            aspect = pixel_aspect(stream)
            frames = [_covering(f, height, width, aspect) for f in at_rate(container.decode(stream), fps, max_frames)]
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(getattr(error, "strerror", None) or str(error)) from error
    if not frames:
        raise UnreadableVideo("it has no frames")
    return torch.from_numpy(np.stack(frames))


@contextmanager
def opened(path: Path | str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A video file and its first video stream; raises :class:`UnreadableVideo` where it has none."""
    with av.open(str(path), metadata_errors="replace") as container:  # titles need not be UTF-8
        if not container.streams.video:
            raise UnreadableVideo("it has no video stream")
        yield container, container.streams.video[0]


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Width of a stored pixel over its height, as the file says; 1 where it does not."""
    return stream.sample_aspect_ratio or Fraction(1)


def quarter_turns(frame: av.VideoFrame) -> int:
    """Quarter turns to the left that bring a frame upright; telephones store what they film upright lying down."""
    return round(frame.rotation / 90) % 4


def picture(frame: av.VideoFrame, aspect: Fraction) -> Image.Image:
    """A frame as a player shows it: upright, with square pixels.

    Args:
        frame: as it is stored.
        aspect: see :func:`pixel_aspect`.
    """
    image = frame.to_image()
    if aspect != 1:
        image = image.resize((round(image.width * aspect), image.height), Image.Resampling.LANCZOS)
    return image.rotate(90 * quarter_turns(frame), expand=True)


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


def _covering(frame: av.VideoFrame, height: int, width: int, aspect: Fraction) -> UInt8[np.ndarray, "h w 3"]:
    turns = quarter_turns(frame)
    if turns % 2:  # scaled as it is stored, then turned
        height, width = width, height
    stored = frame.height, float(frame.width * aspect)
    scale = max(height / stored[0], width / stored[1])
    high, wide = (max(round(size * scale), least) for size, least in zip(stored, (height, width), strict=True))
    pixels = frame.reformat(wide, high, "rgb24", interpolation=Interpolation.AREA).to_ndarray()
    top, left = (high - height) // 2, (wide - width) // 2
    return np.rot90(pixels[top : top + height, left : left + width], turns)
