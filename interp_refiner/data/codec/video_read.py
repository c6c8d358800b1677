"""Reads the frames of video files, as a player shows them."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice, pairwise
from math import inf
from pathlib import Path
from typing import Any

import av
import av.stream
import numpy as np
import torch
from av.container import InputContainer
from av.video.reformatter import Interpolation
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from interp_refiner.data.codec.container import cut_off, declared_seconds, open_file
from interp_refiner.data.codec.frame import UnreadableVideo, display_matrix, lies, rgb_of, upright
from interp_refiner.data.codec.remarks import remarks_on

VIDEO_SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm")
TICK = 1e-6  # seconds, below any time base
SOUNDLESS = "its sound is not used"


def read_video(
    path: Path | str, height: int, width: int, fps: float | None = None, max_frames: int | None = None
) -> UInt8[Tensor, "t h w 3"]:
    """The frames of :func:`decode_video`, without its remarks."""
    return decode_video(path, height, width, fps, max_frames)[0]


def decode_video(
    path: Path | str,
    height: int,
    width: int,
    fps: float | None = None,
    max_frames: int | None = None,
    incomplete: bool = True,
) -> tuple[UInt8[Tensor, "t h w 3"], list[str]]:
    """RGB frames as a player shows them, scaled to cover ``height x width`` and cropped to the centre; and remarks.

    Args:
        path: the file.
        height, width: of the frames.
        fps: frames per second; frames are repeated or left out to reach it. None takes every frame once.
        max_frames: read only the first so many frames; None for all.
        incomplete: accept a file that is truncated or has damaged frames, and return the frames that exist.

    Returns:
        The frames, and :attr:`Film.remarks`.

    Raises:
        UnreadableVideo: the file cannot be opened, has no frames, or is incomplete and ``incomplete`` is false.
    """
    with opened(path) as film:
        shown = film.shown(fps, max_frames, incomplete)
        frames = [film.covering(frame, height, width) for frame in shown]
    return torch.from_numpy(np.stack(frames)), film.remarks


def count_frames(path: Path | str, fps: float | None = None) -> int:
    """The number of frames that :func:`decode_video` returns for an intact file; uses timestamps, decodes nothing."""
    with opened(path) as film:
        stamps = film.stamps()
    if fps is None or not stamps:
        return len(stamps)
    return int((float(stamps[-1] - stamps[0]) + TICK) * fps) + 1


@contextmanager
def opened(path: Path | str) -> Iterator["Film"]:
    """Opens a video file; ffmpeg's errors become :class:`UnreadableVideo`."""
    try:
        with open_file(path) as container:
            yield Film(Path(path), container)
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(getattr(error, "strerror", None) or str(error)) from error


class Film:
    """The best video stream of an opened file.

    Attributes:
        rate: frames per second; 0 if the file does not say.
        aspect: width of a stored pixel divided by its height.

    Raises:
        UnreadableVideo: no video stream.
    """

    def __init__(self, path: Path, container: InputContainer):
        stream: Any = container.streams.best("video")  # a cover picture only if there is no other stream
        if stream is None:
            raise UnreadableVideo("it has no video stream")
        stream.thread_type = "SLICE"  # frame threads lose frames after an error and report damage late
        self.path, self.container, self.stream = path, container, stream
        self.rate = float(stream.average_rate or 0)
        self.aspect = stream.sample_aspect_ratio or Fraction(1)
        self._said: list[str] = []
        self._damaged = 0
        self._torn = 0  # damaged packets; a transport stream that was spliced has one, too
        self._start: float | None = None  # display time of the first frame, if known without decoding
        self._intervals = inf, 0.0  # shortest and longest time from frame to frame
        self._about_the_file()

    @property
    def faults(self) -> list[str]:
        """Why the video is incomplete, as far as it has been read: it is truncated, or frames are damaged."""
        damaged = f"damaged: {self._damaged} frames" if self._damaged else ""
        return [fault for fault in (self._truncated, damaged) if fault]

    @property
    def remarks(self) -> list[str]:
        """What was converted, left out or missing in the part read so far, one phrase each."""
        shortest, longest = self._intervals
        uneven = longest > 1.5 * shortest and longest - shortest > 0.003  # beyond the rounding of time bases
        rate = f"variable frame rate, {1000 * shortest:.0f} to {1000 * longest:.0f} ms a frame"
        torn = f"damaged packets: {self._torn}, frames may be missing"
        later = [*([torn] if self._torn and not self.faults else []), *([rate] if uneven else [])]
        return [*self.faults, *self._said, *later]

    def frames(self) -> Iterator[av.VideoFrame]:
        """The frames in display order; for a truncated file, those before the first missing frame.

        Raises:
            UnreadableVideo: unsupported colours.
        """
        there, last = 0, None
        try:
            for packet in self.container.demux(self.stream):
                self._torn += packet.is_corrupt
                for frame in packet.decode():
                    self._about(frame, last)
                    there, last = there + 1, frame
                    yield frame
        except av.error.InvalidDataError:
            if not self._truncated:
                raise
        self._about_the_end(there, last.time if last is not None else None)

    def shown(self, fps: float | None, max_frames: int | None, incomplete: bool) -> Iterator[av.VideoFrame]:
        """Yields the frames :func:`at_rate`; arguments and errors as for :func:`decode_video`.

        An incomplete file may be detected only after its last frame.
        """
        frame = None
        for frame in at_rate(self.frames(), fps, max_frames):
            yield frame
        if self.faults and not incomplete:
            raise UnreadableVideo("; ".join(self.faults))
        if frame is None:
            raise UnreadableVideo("it has no frames")

    def stamps(self) -> list[Fraction]:
        """The display time of every frame, in seconds of the file; computed from ``rate`` if the file does not say."""
        packets = [packet for packet in self.container.demux(self.stream) if packet.size and not packet.is_discard]
        times = sorted(packet.pts * self.stream.time_base for packet in packets if packet.pts is not None)
        if len(times) == len(packets):
            gaps = [float(after - before) for before, after in pairwise(times)]
            self._intervals = min(gaps, default=inf), max(gaps, default=0.0)
            self._start = float(times[0]) if times else None
            self._about_the_end(len(times), times[-1] if times else None)
            return times
        return [number / Fraction(self.rate or 1).limit_denominator(1001) for number in range(len(packets))]

    def picture(self, frame: av.VideoFrame) -> Image.Image:
        """A frame as a player shows it: upright, with square pixels."""
        image = Image.fromarray(rgb_of(frame))
        if self.aspect != 1:
            image = image.resize((round(image.width * self.aspect), image.height), Image.Resampling.LANCZOS)
        return Image.fromarray(np.ascontiguousarray(upright(np.asarray(image), display_matrix(frame))))

    def shape(self, frame: av.VideoFrame) -> tuple[float, float]:
        """Height and width of a frame as a player shows it."""
        height, width = float(frame.height), float(frame.width * self.aspect)
        return (width, height) if lies(display_matrix(frame)) else (height, width)

    def covering(self, frame: av.VideoFrame, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
        """A frame as a player shows it, scaled to cover a size and cropped to its centre."""
        matrix = display_matrix(frame)
        if lies(matrix):  # scale in the stored orientation, then rotate
            height, width = width, height
        stored = frame.height, float(frame.width * self.aspect)
        scale = max(height / stored[0], width / stored[1])
        high, wide = (max(round(size * scale), least) for size, least in zip(stored, (height, width), strict=True))
        pixels = rgb_of(frame, wide, high, Interpolation.AREA)
        top, left = (high - height) // 2, (wide - width) // 2
        return upright(pixels[top : top + height, left : left + width], matrix)

    def _about_the_file(self) -> None:
        streams = self.container.streams
        pictures = [s for s in streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if len(pictures) > 1:
            self._said.append(f"{len(pictures)} video streams; the best one is read")
        if streams.audio:
            self._said.append(SOUNDLESS)
        if self.aspect != 1:
            self._said.append(f"pixels {float(self.aspect):.4g} times as wide as high are resampled to square pixels")
        if self.stream.metadata.get("alpha_mode") == "1":
            self._said.append("its transparency is ignored")
        self._truncated = cut_off(self.path, self.container, self.stream)

    def _about_the_end(self, there: int, last: float | Fraction | None) -> None:
        """Compares the number of frames read, and the time of the last one, with the header."""
        declared = self.stream.frames if "avi" in self.container.format.name else 0
        missing, duration = declared - there, 0.0
        if last is not None and self.rate:
            longest = max(self._intervals[1], 1 / self.rate)
            duration = declared_seconds(self.path, self.container, self.stream, longest)
            rest = duration - float(last)  # the last frame may be shown as long as the longest other one
            missing = round(rest * self.rate) - 1 if duration and rest > 2 * longest else missing
        if missing > 0 and not self._truncated:
            about = "about " if duration else ""
            self._truncated = f"truncated: {there} of {about}{there + missing} frames are there"

    def _about(self, frame: av.VideoFrame, last: av.VideoFrame | None) -> None:
        self._damaged += frame.is_corrupt
        if last is not None and frame.time is not None and last.time is not None:
            interval = frame.time - last.time
            self._intervals = min(self._intervals[0], interval), max(self._intervals[1], interval)
        if last is None:
            self._about_the_first(frame)

    def _about_the_first(self, frame: av.VideoFrame) -> None:
        self._said += remarks_on(frame)
        start = frame.time if self._start is None else self._start  # after a seek this frame is not the first
        if start and self.rate and start * self.rate > 1.5:
            self._said.append(f"begins at {start:.3g} s: times count from its first frame")


def at_rate(frames: Iterator[av.VideoFrame], fps: float | None, limit: int | None) -> Iterator[av.VideoFrame]:
    """The frames on screen ``k / fps`` seconds after the first, k = 0, 1, ...; None: every frame. At most ``limit``."""
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
