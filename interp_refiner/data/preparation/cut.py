"""Cuts a video into clips, frame by frame; memory does not grow with the video's length."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf, log, sqrt
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, check_least, choice, derived_seed
from interp_refiner.data.codec import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    UnreadableVideo,
    count_frames,
    decode_picture,
    opened,
)
from interp_refiner.data.preparation.shot import Frame, Piece, Pixels, Shot, Size
from interp_refiner.data.preparation.videos import Video

SPLITS = ("train", "val")
Incomplete = Literal["skip", "use"]


ASPECTS = (16 / 9, 4 / 3, 1.0, 3 / 4, 9 / 16)  # width over height of automatic buckets


@dataclass(frozen=True)
class Cut:
    """How videos become clips.

    A video is resized to one size and resampled to one rate. A large difference between two frames begins a new shot,
    as does a change of the frames' size.
    Every shot is cut into windows; the last window ends with the shot. Held-out clips overlap only where this last
    window requires it.

    With buckets, clips have several sizes. A video gets the height and width nearest to its own aspect: portrait stays
    portrait. A shot gets the longest clip that fits into it. Training clips then overlap as little as held-out clips.
    ``frame_size`` and ``stride`` are ignored.

    Attributes:
        frame_size: (height, width) that frames are scaled to cover and cropped to.
        size: (frames, height, width) of a clip, in pixels.
        stride: (frames, height, width) from training clip to training clip, in pixels.
        fps: frames per second; None takes every frame.
        shot_change: a new shot begins where the mean absolute difference of two frames (0..1) is larger; None: never.
        held_out_videos: share of the videos that are held out, chosen by their keys.
        held_out_end: share of every other video's frames that is held out, at its end.
        max_frames: frames to read of a video; None for all.
        incomplete: ``skip`` a video that is truncated or has damaged frames, or ``use`` the frames that exist.
        buckets: sizes of clips, used instead of ``size``. ``auto``: the length and area of ``size`` in the aspects
            16:9, 4:3, 1:1, 3:4 and 9:16. None: one size.
        divisor: heights and widths of automatic buckets are divisible by it.

    Raises:
        BadValue: sizes that do not fit, or shares outside 0..1.
    """

    frame_size: Sequence[int] = (480, 832)
    size: Sequence[int] = (81, 480, 832)
    stride: Sequence[int] = (81, 480, 832)
    fps: float | None = None
    shot_change: float | None = 0.1
    held_out_videos: float = 0.05
    held_out_end: float = 0.0
    max_frames: int | None = None
    incomplete: Incomplete = "skip"
    buckets: Sequence[Sequence[int]] | Literal["auto"] | None = None
    divisor: int = 32

    def __post_init__(self) -> None:
        for name, parts in (("frame_size", 2), ("size", 3), ("stride", 3)):
            value = getattr(self, name)
            if len(value) != parts or min(value) < 1:
                raise BadValue(name, list(value), f"{parts} numbers, at least 1")
        larger = any(part > whole for part, whole in zip(self.size[1:], self.frame_size, strict=True))
        if self.buckets is None and larger:
            raise BadValue("size", list(self.size), f"clips within frames of {list(self.frame_size)}")
        for name in ("held_out_videos", "held_out_end"):
            if not 0 <= getattr(self, name) < 1:
                raise BadValue(name, getattr(self, name), "a share >= 0 and < 1")
        if self.fps is not None and not 0 < self.fps < inf:
            raise BadValue("fps", self.fps, "frames per second > 0, or null")
        if self.shot_change is not None and not 0 < self.shot_change <= 1:
            raise BadValue("shot_change", self.shot_change, "a difference above 0 and up to 1, or null")
        choice("incomplete", self.incomplete, get_args(Incomplete))
        check_least(self, divisor=1)
        if isinstance(self.buckets, str):
            choice("buckets", self.buckets, ("auto",))
        elif self.buckets is not None and (
            not self.buckets
            or any(len(size) != 3 or min(size) < 1 for size in self.buckets)
            or len(set(map(tuple, self.buckets))) < len(self.buckets)
        ):
            raise BadValue(
                "buckets", [list(size) for size in self.buckets], "auto, null or different [frames, height, width]"
            )
        if self.max_frames is not None and self.max_frames < self.least_frames:
            raise BadValue(
                "max_frames", self.max_frames, f"at least {self.least_frames}, the frames of a clip, or null"
            )

    @staticmethod
    def idle(settings: Mapping[str, Any]) -> dict[str, str]:
        """The settings without effect, see :class:`SaysIdle`."""
        buckets = settings.get("buckets")
        replaced = {"frame_size", "stride"} if buckets == "auto" else {"frame_size", "stride", "size"}
        names = (replaced if buckets is not None else set()) | ({"divisor"} if buckets != "auto" else set())
        return {name: "it is for buckets=auto" if name == "divisor" else "buckets replaces it" for name in names}

    @property
    def sizes(self) -> list[Size]:
        """(frames, height, width) that clips may have."""
        if self.buckets is None:
            return [_size(self.size)]
        if self.buckets == "auto":
            return automatic_buckets(self.size[0], self.size[1] * self.size[2], self.divisor)
        return [_size(size) for size in self.buckets]  # type: ignore[arg-type]

    @property
    def least_frames(self) -> int:
        """The number of frames of the shortest clip size."""
        return min(frames for frames, _, _ in self.sizes)

    def folder(self, split: str, size: Size) -> str:
        """The folder for clips of a size, relative to the output."""
        return split if self.buckets is None else f"{split}/{'x'.join(map(str, size))}"

    def describe(self) -> dict[str, Any]:
        """The settings; without buckets, their settings are left out."""
        described = asdict(self)
        if self.buckets is None:
            del described["buckets"], described["divisor"]
        return described

    def frame_shape(self, height: int | float, width: int | float) -> tuple[int, int]:
        """The height and width that a video's frames are scaled to cover: nearest in aspect, on ties the largest."""
        if self.buckets is None:
            return self.frame_size[0], self.frame_size[1]
        shapes = {(rows, columns) for _, rows, columns in self.sizes}
        return min(shapes, key=lambda s: (round(abs(log(s[1] / s[0] * height / width)), 6), -s[0] * s[1], s))

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of the accepted files: videos, and pictures if a clip has one frame."""
        return (*VIDEO_SUFFIXES, *(PICTURE_SUFFIXES if self.least_frames == 1 else ()))

    def is_held_out(self, video: Video) -> bool:
        """Whether the whole video is held out."""
        return derived_seed("held out", video.key) / 2**63 < self.held_out_videos

    def read(self, video: Video, remarks: list[str]) -> Iterator[Piece]:
        """Yields the clips of a video while decoding it.

        Args:
            video: the video to read.
            remarks: extended by :attr:`Film.remarks` after the last clip.

        Raises:
            UnreadableVideo: not a video, or one that is faulty, incomplete or too short. This may be raised after some
                clips; the caller must discard them.
        """
        if video.fault:
            raise UnreadableVideo(video.fault)
        first_held_out = 0 if self.is_held_out(video) else None
        if first_held_out is None and self.held_out_end:
            total = self._count_frames(video.path)
            first_held_out = total - round(self.held_out_end * total)
        counted = _Counted(self._frames(video.path, remarks))
        empty = True
        for piece in self.clips(counted, first_held_out):
            empty = False
            yield piece
        if empty:
            raise UnreadableVideo(f"no shot has the {self.least_frames} frames of a clip ({counted.count} in all)")

    def clips(self, frames: Iterable[Frame], first_held_out: int | None = None) -> Iterator[Piece]:
        """The clips of a video's frames, shot after shot; no clip has both training and held-out frames."""
        shot: Shot | None = None
        before: Float[np.ndarray, "y x"] | None = None
        shape: tuple[int, ...] | None = None
        for number, frame in enumerate(frames):
            grey = _grey(frame)
            jumps = frame.shape != shape or (
                self.shot_change is not None and before is not None and _distance(grey, before) > self.shot_change
            )
            before, shape = grey, frame.shape
            if shot is None or jumps or number == first_held_out:
                if shot is not None:
                    yield from shot.end()
                held_out = first_held_out is not None and number >= first_held_out
                shot = self._shot("val" if held_out else "train", number, frame.shape[:2])
            yield from shot.add(frame)
        if shot is not None:
            yield from shot.end()

    def _shot(self, split: str, first: int, shape: tuple[int, ...]) -> Shot:
        if self.buckets is None:
            size = _size(self.size)
            return Shot(split, first, [(size, _size(self.stride) if split == "train" else size)])
        return Shot(split, first, [(size, size) for size in self.sizes if size[1:] == shape])

    def _frames(self, path: Path, remarks: list[str]) -> Iterator[Frame]:
        if path.suffix.lower() in PICTURE_SUFFIXES:
            picture, found = decode_picture(path, self.frame_shape)
            yield picture[0].numpy()
            remarks += found
            return
        with opened(path) as film:
            for frame in film.shown(self.fps, self.max_frames, self.incomplete == "use"):
                yield film.covering(frame, *self.frame_shape(*film.shape(frame)))
            remarks += film.remarks

    def _count_frames(self, path: Path) -> int:
        if path.suffix.lower() in PICTURE_SUFFIXES:
            return 1
        return min(count_frames(path, self.fps), self.max_frames or inf)  # type: ignore[return-value]


class _Counted:
    """An iterable that counts the items taken."""

    def __init__(self, frames: Iterable[Frame]):
        self.frames, self.count = frames, 0

    def __iter__(self) -> Iterator[Frame]:
        for frame in self.frames:
            self.count += 1
            yield frame


def _grey(frame: Frame) -> Float[np.ndarray, "y x"]:
    """Grey in 0..1, of every other row and column."""
    return frame[::2, ::2].mean(2, dtype=np.float32) / 255


def _distance(a: Float[np.ndarray, "y x"], b: Float[np.ndarray, "y x"]) -> float:
    return float(np.abs(a - b).mean())


def automatic_buckets(frames: int, area: int, divisor: int) -> list[Size]:
    """Clip sizes of one length and about one area in several aspects; ``divisor`` divides heights and widths.

    Raises:
        BadValue: a divisor too large for the area.
    """
    sizes = []
    for aspect in ASPECTS:
        height, width = (round(sqrt(area * ratio) / divisor) * divisor for ratio in (1 / aspect, aspect))
        if not min(height, width):
            raise BadValue("divisor", divisor, f"a number that fits into clips of {area} pixels a frame")
        sizes.append((frames, height, width))
    return list(dict.fromkeys(sizes))


def _size(numbers: Sequence[int]) -> Size:
    frames, height, width = numbers
    return frames, height, width


def as_videos(clips: Sequence[Pixels], device: torch.device | str = "cpu") -> Float[Tensor, "b c t h w"]:
    """RGB in 0..1, on a device; the clips are copied there as bytes."""
    return torch.stack([clip.to(device, non_blocking=True) for clip in clips]).float().div_(255)
