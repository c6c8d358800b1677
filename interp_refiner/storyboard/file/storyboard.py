"""Reads a storyboard file: the description of a video, as YAML or JSON.

    width: 56
    height: 32
    frames: 21            # or seconds: 2.625
    fps: 8
    prompt: a bright circle moving right
    keyframes:
      - {image: first.png, time: 0}
      - {image: sketch.webp, time: 50%, strength: 0.6, prompt: the circle turns}
      - {video: take_3.mp4, frame: 37, time: 2s, fit: pad}
      - {clip: ending.mp4, time: 16, sound: true}
    keyframes_at: [25%, 75%]   # generated from the prompt; without any keyframes all are generated

Paths are relative to the file. Every mistake is a :class:`BadValue` that names its entry.
"""

import re
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from interp_refiner.core import BadValue, one_fault, suggestion
from interp_refiner.data.codec import Sound, has_sound, read_image
from interp_refiner.data.codec.video_read import SOUNDLESS
from interp_refiner.storyboard.file.keyframe import TIMES, Keyframe, Time, check_strength, frame_shown_at, parse_time
from interp_refiner.storyboard.file.media import Fit, Shown, as_tensor, fitted, frame_start, read_clip, read_frame
from interp_refiner.storyboard.file.plain_yaml import read_json, read_yaml
from interp_refiner.storyboard.file.timeline import Placed

KEYFRAMES = "a list of at least one keyframe, such as - {image: first.png, time: 0}"
PLAIN = {  # clearer messages than pydantic's
    "time": TIMES,
    "frame": TIMES,
    "keyframes_at": "a list of times, such as [0, 50%, 100%]",
}


class Entry(BaseModel):
    """One keyframe.

    Attributes:
        image: a picture: png, jpg or webp.
        clip: a short video; all its frames are keyframes, from ``time`` on, at the storyboard's frame rate.
        video: a video with one keyframe, its ``frame`` (in frames, seconds or percent of that video).
        time: when it is shown: a frame (12), seconds (``1.5s``), minutes and seconds (``1:30``) or percent (``50%``).
        hard: whether it is kept bit for bit; by default, if it has no strength.
        strength: of a proposal that the model may change, see :class:`Keyframe`.
        fit: ``crop``, ``pad`` or ``stretch`` for pictures of another size; None for the storyboard's setting.
        prompt: for the frames from here to the next keyframe with a prompt.
        sound: whether to copy the sound of this clip or video from here on, until one of them ends.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    image: str | None = None
    clip: str | None = None
    video: str | None = None
    frame: int | str | None = None
    time: int | str
    hard: bool | None = None
    strength: float | None = None
    fit: Fit | None = None
    prompt: str | None = None
    sound: bool = False

    @property
    def source(self) -> str:
        """The entry's file."""
        return self.image or self.clip or self.video or ""


class Storyboard(BaseModel):
    """The content of a storyboard file.

    Attributes:
        width, height: in pixels; None for the model's training size.
        frames: length in pixel frames; None for ``seconds``, else the model's own length.
        seconds: length in seconds, rounded to a length that the codec supports.
        fps: frames per second; None for that of the model's data.
        prompt, negative_prompt: description of the video, and what guidance leads away from.
        fit: how pictures of another size are fitted.
        keyframes: in any order; empty if all are generated.
        keyframes_at: times at which the prompt generates a keyframe, unless there is one. None: evenly spread ones if
            ``keyframes`` is empty, else none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    width: int | None = Field(None, gt=0)
    height: int | None = Field(None, gt=0)
    frames: int | None = Field(None, gt=0)
    seconds: float | None = Field(None, gt=0, allow_inf_nan=False)
    fps: float | None = Field(None, gt=0, allow_inf_nan=False)
    prompt: str = ""
    negative_prompt: str = ""
    fit: Fit = "crop"
    keyframes: list[Entry] = Field(default_factory=list)
    keyframes_at: list[int | str] | None = None
    _folder: Path = PrivateAttr(Path("."))  # base folder of relative paths

    @property
    def files(self) -> list[Path]:
        """The entries' files, in order."""
        return [self._path(entry) for entry in self.keyframes]

    def read(
        self, width: int, height: int, fps: float, longest: int, only_looks: bool = False
    ) -> tuple[list[Keyframe], list[str]]:
        """The keyframes at the size of the video, and a line for everything that had to be fitted or converted.

        Args:
            width, height: size of the video in pixels.
            fps: frame rate of the video, at which clips are read.
            longest: largest number of frames read of a clip; the video's length plus one latent frame is enough.
            only_looks: whether to replace every picture by one pixel after reading, which is enough for a plan.

        Raises:
            BadValue: a file is missing or cannot be read; names the entry.
        """
        keyframes, notes = [], []
        for index, entry in enumerate(self.keyframes):
            name, fit = f"keyframes[{index}]", entry.fit or self.fit
            with naming(name):
                shown = self._shown(entry, fps, longest)
            found = shown.pictures[0].size
            if found != (width, height):
                notes.append(f"{name} {entry.source} is {found[0]}x{found[1]}, the video {width}x{height}: {fit}")
            if entry.clip is not None and shown.rate not in (0, fps):
                notes.append(f"{name} {entry.source} has {shown.rate:g} frames per second and is read at {fps:g}")
            notes += [
                f"{name} {entry.source}: {remark}"
                for remark in shown.remarks
                if not (entry.sound and remark == SOUNDLESS)
            ]
            if only_looks:
                tensors = [torch.zeros(3, 1, 1)] * len(shown.pictures)
            else:
                tensors = [as_tensor(fitted(picture, width, height, fit)) for picture in shown.pictures]
            content: dict[str, Any] = {"image": tensors[0]}
            if entry.clip is not None:
                content = {"video": torch.stack(tensors, 1)}
            settings: dict[str, Any] = {"hard": entry.hard, "strength": entry.strength, "prompt": entry.prompt}
            keyframes.append(Keyframe(**content, **settings, time=entry.time, name=entry.source, fit=fit))
        return keyframes, notes

    def sound(self, placed: Sequence[Placed], fps: float) -> Sound | None:
        """The sound to copy into the video, from the entry with ``sound: true``.

        Args:
            placed: the keyframes on the grid; a clip's sound starts with its pictures, at the first frame of its slots.
            fps: of the video.

        Raises:
            BadValue: the file has no sound; names the entry.
        """
        for index, entry in enumerate(self.keyframes):
            if entry.sound:
                with naming(f"keyframes[{index}]"):
                    path = self._path(entry)
                    if not has_sound(path):
                        raise BadValue("sound", entry.sound, f"a file with sound, or false: {entry.source} has none")
                    place = next(place for place in placed if place.index == index)
                    if entry.clip is not None:
                        return Sound(path, place.shown.start / fps)
                    return Sound(path, place.frame / fps, frame_start("video", path, partial(_numbered, entry.frame)))
        return None

    def _path(self, entry: Entry) -> Path:
        return self._folder / Path(entry.source).expanduser()

    def _shown(self, entry: Entry, fps: float, longest: int) -> Shown:
        """The content of an entry's file."""
        path = self._path(entry)
        if entry.image is not None:
            image, remarks = read_image(path)
            return Shown([image], remarks)
        if entry.clip is not None:
            return read_clip("clip", path, fps, longest)
        return read_frame("video", path, partial(_numbered, entry.frame))


def _numbered(frame: Time | None, times: Sequence[float]) -> int:
    assert frame is not None
    with naming("frame", "time"):
        return frame_shown_at(frame, times)


class naming:
    """Puts the name of an entry in front of the setting that an error names.

    Args:
        prefix: the entry's name, such as ``storyboard`` for the entries of a storyboard.
        instead: a name that the prefix replaces.
        only: the names that get the prefix; None for all. Other names are already full keys of settings.
    """

    def __init__(self, prefix: str, instead: str | None = None, only: Collection[str] | None = None):
        self.prefix, self.instead, self.only = prefix, instead, only

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, BadValue):
            raise BadValue(self.whole(error.name), error.value, error.allowed, error.options) from None

    def whole(self, name: str) -> str:
        """The name with the prefix."""
        first = re.split(r"[.\[]", name)[0]
        if first == self.instead:
            return self.prefix + name.removeprefix(first)
        return f"{self.prefix}.{name}" if self.only is None or first in self.only else name


ENTRIES = frozenset(Storyboard.model_fields)


def load_storyboard(path: str | Path) -> Storyboard:
    """Reads a storyboard and checks everything except the files that it names.

    Raises:
        BadValue: no such file, invalid YAML or JSON, an unknown key, or a value that is not allowed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise BadValue("storyboard", path, "a YAML or JSON file: no such file")
    with one_fault("storyboard", path, "a YAML or JSON file"):
        content = (read_json if path.suffix == ".json" else read_yaml)(path.read_text(encoding="utf-8-sig"))
    return parse_storyboard(content, path.parent)


def parse_storyboard(content: Any, folder: Path = Path(".")) -> Storyboard:
    """A storyboard from its content; raises as :func:`load_storyboard`."""
    if not isinstance(content, dict):
        raise BadValue("storyboard", type(content).__name__, "a mapping with keyframes in it")
    try:
        board = Storyboard.model_validate(content)
    except ValidationError as error:
        found = error.errors()
        # a key with a typo also counts as missing; the error about the typo is more helpful
        raise _told(next((e for e in found if e["type"] == "extra_forbidden"), found[0])) from None
    board._folder = folder
    if board.frames is not None and board.seconds is not None:
        raise BadValue("storyboard.seconds", board.seconds, f"frames or seconds, not both: frames={board.frames}")
    if not board.keyframes and not board.prompt:
        came = content.get("keyframes") if isinstance(content, dict) else None
        raise BadValue("keyframes", came, f"{KEYFRAMES}, or a prompt that generates them")
    for index, time in enumerate(board.keyframes_at or []):
        with naming(f"keyframes_at[{index}]", "time"):
            parse_time(time)
    for index, entry in enumerate(board.keyframes):
        with naming(f"keyframes[{index}]"):
            _check(entry)
            if entry.sound and any(other.sound for other in board.keyframes[:index]):
                raise BadValue("sound", entry.sound, "only one keyframe with sound; an earlier keyframe has it")
    return board


def _check(entry: Entry) -> None:
    sources = [name for name in ("image", "clip", "video") if getattr(entry, name) is not None]
    if len(sources) != 1:
        raise BadValue("image", " and ".join(sources) or None, "exactly one of image, clip and video")
    if (entry.frame is None) == (entry.video is not None):
        raise BadValue("frame", entry.frame, "a frame of the video; frame and video need each other")
    if entry.sound and entry.image is not None:
        raise BadValue("sound", entry.sound, "only for a clip or a video, because pictures have no sound")
    parse_time(entry.time)
    if entry.frame is not None:
        with naming("frame", "time"):
            parse_time(entry.frame)
    check_strength(entry.hard, entry.strength)


def _told(error: Any) -> BadValue:
    """An error of pydantic as one line: the entry, its value, what is allowed."""
    kind, loc, value = error["type"], error["loc"], error["input"]
    if loc[-1] in ("int", "str") and kind != "extra_forbidden":  # the member of a union that was tried
        loc = loc[:-1]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    if kind == "extra_forbidden":
        known = list((Entry if len(loc) > 1 else Storyboard).model_fields)
        near = suggestion(loc[-1], known)
        return BadValue(name, value, f"a known key: {' | '.join(known)}{near}")
    if kind == "literal_error":
        return BadValue(name, value, " | ".join(get_args(Fit)), get_args(Fit))
    if kind == "model_type":
        return BadValue(name, value, "a mapping, such as {image: first.png, time: 0}")
    if kind == "missing":
        return BadValue(name, None, PLAIN.get(loc[-1], "a value"))
    allowed = error["msg"].removeprefix("Input should be ")
    shown = repr(value) if isinstance(value, str) else value  # quotes distinguish "41" from 41
    return BadValue(name, shown, PLAIN.get(loc[-1], allowed))
