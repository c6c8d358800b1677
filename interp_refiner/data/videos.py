"""A folder of videos with captions, and how a video is cut into clips."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from interp_refiner.core import BadValue, choice, derived_seed, suggestion
from interp_refiner.data.captions import BESIDE, captions_beside, read_captions
from interp_refiner.data.codec import PICTURE_SUFFIXES, VIDEO_SUFFIXES, UnreadableVideo, decode_picture, decode_video
from interp_refiner.data.wan_synth import windows

SPLITS = ("train", "val")
Pixels = UInt8[Tensor, "c t h w"]
Incomplete = Literal["skip", "use"]


@dataclass(frozen=True)
class Video:
    """A video and what is known before it is decoded.

    Attributes:
        path: of the file.
        key: that the names of its clips begin with.
        captions: empty where there are none.
        name: the path below the source.
        fault: why it must be left out, such as a caption that cannot be read; empty if it need not.
    """

    path: Path
    key: str
    captions: tuple[str, ...] = ()
    name: str = ""
    fault: str = ""

    @property
    def caption(self) -> str:
        """The first one; empty where there is none."""
        return next(iter(self.captions), "")

    @property
    def size(self) -> int:
        """Of the file in bytes; 0 where there is none."""
        return self.path.stat().st_size if self.path.is_file() else 0


@dataclass(frozen=True)
class Footage:
    """What was read of a video: the frames of every split, and :attr:`Film.remarks`."""

    parts: dict[str, Pixels]
    remarks: list[str]


@dataclass(frozen=True)
class Cut:
    """How videos become clips.

    A video is brought to one size and one rate; shots are told apart by jumps between frames; every shot is cut into
    windows, the last ones flush with its end. Held-out clips overlap no more than that needs.

    Attributes:
        frame_size: (height, width) that frames are scaled to cover and cropped to.
        size: (frames, height, width) of a clip, in pixels.
        stride: (frames, height, width) from training clip to training clip, in pixels.
        fps: frames a second; None takes every frame.
        shot_change: mean absolute difference of two frames, in 0..1, above which a new shot begins; None: never.
        held_out_videos: share of the videos that are held out, chosen by their keys.
        held_out_end: share of the frames of every other video that is held out, at its end.
        max_frames: read of a video; None for all.
        incomplete: ``skip`` a video that was cut off or that has damaged frames, or ``use`` what there is.

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

    def __post_init__(self) -> None:
        for name, parts in (("frame_size", 2), ("size", 3), ("stride", 3)):
            value = getattr(self, name)
            if len(value) != parts or min(value) < 1:
                raise BadValue(name, list(value), f"{parts} numbers, at least 1")
        if any(part > whole for part, whole in zip(self.size[1:], self.frame_size, strict=True)):
            raise BadValue("size", list(self.size), f"clips within frames of {list(self.frame_size)}")
        for name in ("held_out_videos", "held_out_end"):
            if not 0 <= getattr(self, name) < 1:
                raise BadValue(name, getattr(self, name), "a share from 0 up to, not including, 1")
        if self.fps is not None and not 0 < self.fps < inf:
            raise BadValue("fps", self.fps, "frames a second, more than 0, or null")
        if self.shot_change is not None and not 0 < self.shot_change <= 1:
            raise BadValue("shot_change", self.shot_change, "a difference above 0 and up to 1, or null")
        choice("incomplete", self.incomplete, get_args(Incomplete))
        if self.max_frames is not None and self.max_frames < self.size[0]:
            raise BadValue("max_frames", self.max_frames, f"the {self.size[0]} frames of a clip or more, or null")

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the files that clips are cut from: videos, and where a clip is one frame, pictures."""
        return (*VIDEO_SUFFIXES, *(PICTURE_SUFFIXES if self.size[0] == 1 else ()))

    def read(self, video: Video) -> Footage:
        """The frames of every split.

        Raises:
            UnreadableVideo: no video, one with a fault, one that is not whole, or one that is too short for a clip.
        """
        if video.fault:
            raise UnreadableVideo(video.fault)
        height, width = self.frame_size
        use = self.incomplete == "use"
        if video.path.suffix.lower() in PICTURE_SUFFIXES:
            frames, remarks = decode_picture(video.path, height, width)
        else:
            frames, remarks = decode_video(video.path, height, width, self.fps, self.max_frames, incomplete=use)
        frames = frames.permute(3, 0, 1, 2)
        if self.is_held_out(video):
            parts = {"val": frames}
        else:
            held_out = round(self.held_out_end * frames.shape[1])
            parts = {"train": frames[:, : frames.shape[1] - held_out], "val": frames[:, frames.shape[1] - held_out :]}
        if all(next(self.clips(part, split), None) is None for split, part in parts.items()):
            raise UnreadableVideo(f"no shot has the {self.size[0]} frames of a clip ({frames.shape[1]} in all)")
        return Footage(parts, remarks)

    def is_held_out(self, video: Video) -> bool:
        """Whether the whole video is."""
        return derived_seed("held out", video.key) / 2**63 < self.held_out_videos

    def clips(self, frames: Pixels, split: str) -> Iterator[tuple[tuple[int, int, int], Pixels]]:
        """((frame, row, column) of the first pixel, clip), shot after shot."""
        stride = self.stride if split == "train" else self.size
        for first, last in self.shots(frames):
            if last - first >= self.size[0]:
                for (t, h, w), clip in windows(frames[:, first:last], self.size, stride):
                    yield (first + t, h, w), clip

    def shots(self, frames: Pixels) -> list[tuple[int, int]]:
        """(first frame, last frame + 1) of every shot."""
        num_frames = frames.shape[1]
        if self.shot_change is None or num_frames < 2:
            return [(0, num_frames)]
        grey = frames[:, :, ::2, ::2].float().mean(0) / 255
        jumps = (grey.diff(dim=0).abs().mean((1, 2)) > self.shot_change).nonzero().flatten() + 1
        borders = [0, *jumps.tolist(), num_frames]
        return list(pairwise(borders))


def as_video(clip: Pixels) -> Float[Tensor, "1 c t h w"]:
    """RGB in 0..1, a batch of one."""
    return clip.unsqueeze(0).float() / 255


def find_videos(
    source: Path, captions: Path | None = None, suffixes: Sequence[str] = tuple(VIDEO_SUFFIXES)
) -> list[Video]:
    """The videos below a folder in the order of their names, those alone that :func:`walked` finds.

    Args:
        source: the folder.
        captions: a table (:func:`read_captions`) with the videos' paths below ``source``; it counts before the texts
            beside them (:func:`captions_beside`).
        suffixes: of the files, see :attr:`Cut.suffixes`.

    Raises:
        BadValue: no folder, no videos, two of one name, or no such table.
    """
    if not source.is_dir():
        raise BadValue("source", source, "a folder of videos: no such folder")
    paths, left_out = walked(source, suffixes)
    if not paths:
        found = "; ".join(f"{len(names)} left out, {reason}" for reason, names in left_out.items()) or "it is empty"
        raise BadValue("source", source, f"a folder of videos ({' '.join(suffixes)}): {found}")
    names = [path.relative_to(source).as_posix() for path in paths]
    said = read_captions(captions) if captions is not None else {}
    if unknown := sorted(set(said) - set(names)):
        near = suggestion(unknown[0], names)
        raise BadValue("captions", captions, f"files below {source} by their paths, not '{unknown[0]}'{near}")
    videos = [_video(path, name, said.get(name, ())) for path, name in zip(paths, names, strict=True)]
    of_key: dict[str, str] = {}
    for video in videos:
        if (other := of_key.setdefault(video.key, video.name)) != video.name:
            allowed = f"names that differ in letters or digits: '{other}' and '{video.name}' would both be {video.key}"
            raise BadValue("source", source, allowed)
    return videos


def walked(source: Path, suffixes: Sequence[str] = tuple(VIDEO_SUFFIXES)) -> tuple[list[Path], dict[str, list[str]]]:
    """The video files below a folder in the order of their names, and what was left out: names by reason.

    Links are followed, to files and folders, but nothing is read twice: of several ways to one file or folder the one
    without a link counts, then the first. Hidden files and folders are left out, and all but one of the names that
    differ in case only, which other file systems take for one.
    """
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    files = list(_files(source, left_out))
    captioned = {path.with_suffix("") for path in files if path.suffix.lower() in suffixes}
    same: set[tuple[int, int]] = set()
    names: set[str] = set()
    found = []
    for path in sorted(files, key=lambda path: (path.is_symlink(), path)):
        name = str(path.relative_to(source))
        if path.suffix.lower() not in suffixes:
            if path.suffix not in BESIDE:
                left_out[f"no video ({path.suffix or 'no suffix'})"].append(name)
            elif path.with_suffix("") not in captioned:
                left_out["a caption without a video"].append(name)
            continue
        stat = path.stat() if path.exists() else path.lstat()  # of a dangling link its own
        if (identity := (stat.st_dev, stat.st_ino)) in same:
            left_out["the same file as another"].append(name)
        elif name.lower() in names:
            left_out["the name of another but for case"].append(name)
        else:
            same.add(identity)
            names.add(name.lower())
            found.append(path)
    return sorted(found), dict(left_out)


def _files(source: Path, left_out: defaultdict[str, list[str]]) -> Iterator[Path]:
    """Every file below a folder that is not hidden; each folder once, those without a link first."""
    seen: set[str] = set()
    waiting = [source]
    linked: list[Path] = []
    while waiting or linked:
        folder = waiting.pop(0) if waiting else linked.pop(0)
        name = str(folder.relative_to(source))
        if (real := os.path.realpath(folder)) in seen:
            left_out["the same folder as another"].append(name)
            continue
        seen.add(real)
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            left_out[f"a folder that cannot be read ({error.strerror})"].append(name)
            continue
        for path in entries:
            if path.name.startswith("."):
                left_out["hidden"].append(str(path.relative_to(source)))
            elif path.is_dir():
                (linked if path.is_symlink() else waiting).append(path)
            else:
                yield path


def _video(path: Path, name: str, said: tuple[str, ...]) -> Video:
    """A file with its caption; a dangling link and text that is not UTF-8 are faults of this video alone."""
    key, captions, fault = re.sub(r"[^\w-]+", "-", name), said, ""
    try:
        captions = said or captions_beside(path)
    except ValueError as error:
        fault = str(error)
    if not path.is_file():
        fault = "no such file: a dangling link" if path.is_symlink() else "not a file"
    return Video(path, key, captions, name, fault)


def moments(raw: Float[Tensor, "1 c t h w"]) -> Float[Tensor, "c 3"]:
    """Count, sum and sum of squares of every channel; sums over clips give mean and deviation."""
    values = raw.double().squeeze(0).flatten(1)
    return torch.stack([torch.full(values.shape[:1], values.shape[1]), values.sum(1), values.square().sum(1)], 1)
