"""Keyframes of a storyboard: pictures, frames or latents at a time of the video."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import get_args

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from interp_refiner.core import BadValue, choice
from interp_refiner.storyboard.file.media import Fit, Footage, Picture, as_rgb, as_video

Time = int | str
CONTENT = ("image", "video", "latents", "generated")
TIME = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>%|s|)")
CLOCK = re.compile(r"((?P<hours>\d+):(?=\d\d:))?(?P<minutes>\d+):(?P<seconds>[0-5]\d(\.\d+)?)")
TIMES = "a frame (12), seconds ('1.5s'), minutes and seconds (1:30) or percent ('50%')"


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A picture, a few frames or latents, and the time at which the video shows them.

    ``hard`` keyframes are given frames: their latent slot equals them bit for bit. The others are proposals: the model
    gets them as input but may change them. With ``v`` the encoded keyframe and ``w`` its strength, every clean estimate
    of the sampler is replaced in their slots by

        z0_hat' = w v + (1 - w) z0_hat

    This is the mean of the two if the proposal has ``w / (1 - w)`` times the precision of the estimate. At ``w = 0``
    the model gets the proposal and is free to ignore it; at ``w = 1`` the slot is ``v``. The strength has no other
    effect on the model: its confidence input is that of keyframes which training may replace (0.5), or 1 for a model
    trained with ``scheduled_sampling=never``, which has no other value.

    Args:
        image: one picture: PIL, an array ``[h, w, 3]`` or a tensor ``[3, h, w]``, RGB in 0..1 or bytes. PIL's are
            converted like files, see :func:`as_rgb`.
        video: successive pixel frames, the first of them at ``time``: pictures, an array ``[n, h, w, 3]`` or a tensor
            ``[3, n, h, w]``.
        latents: latents of about unit variance, one or more slots, the first of them at ``time``.
        generated: whether the pipeline's keyframe source makes it from the prompt. Then it is a proposal. Its default
            strength depends on the refiner's training: 0 if keyframes were replaced by proposals, so that the refiner
            can correct them; else 1, because estimates at keyframes were never part of the loss.
        time: a pixel frame (12), seconds (``"1.5s"``), minutes and seconds (``"1:30"``, ``"0:01:30"``)
            or percent of the way from first to last frame (``"50%"``).
        hard: whether it is a constraint; by default, if no strength is given.
        strength: ``w`` of a proposal, 0 to 1.
        prompt: of the frames from this keyframe to the next one with a prompt; None keeps the previous prompt.
        name: for messages and reports.
        fit: how pictures of another size than the video's are fitted, see :func:`fitted`.

    Raises:
        BadValue: not exactly one of image, video, latents and generated; a strength outside 0..1 or together with
            ``hard=True``; a generated keyframe that is hard; an invalid time; a picture of unsupported colours.
    """

    image: Picture | None = None
    video: Footage | None = None
    latents: Float[Tensor, "c n y x"] | None = None
    generated: bool = False
    time: Time = 0
    hard: bool | None = None
    strength: float | None = None
    prompt: str | None = None
    name: str = ""
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        content = [name for name in ("image", "video", "latents") if getattr(self, name) is not None]
        content += ["generated"] * self.generated
        if len(content) != 1:
            raise BadValue("keyframe", " and ".join(content) or None, f"exactly one of {', '.join(CONTENT)}")
        if self.generated and self.hard:
            raise BadValue("hard", self.hard, "false for a generated keyframe, which is a proposal")
        check_strength(None if self.generated else self.hard, self.strength)
        parse_time(self.time)
        choice("fit", self.fit, get_args(Fit))
        if isinstance(self.image, Image.Image):
            object.__setattr__(self, "image", as_rgb(self.image))
        if self.video is not None:
            object.__setattr__(self, "video", as_video(self.video))

    @property
    def given(self) -> bool:
        """Whether it is a constraint."""
        return self.strength is None and not self.generated

    @property
    def pictures(self) -> bool:
        """Whether it has pictures that the video can be compared with."""
        return self.latents is None and not self.generated

    def at(self, num_frames: int, fps: float) -> int:
        """The pixel frame of its time; raises :class:`BadValue` outside a clip of ``num_frames`` frames."""
        return frame_at(self.time, num_frames, fps)


def check_strength(hard: bool | None, strength: float | None) -> None:
    """Refuses a strength outside 0..1, a strength with ``hard=True``, and ``hard=False`` without a strength."""
    if strength is not None and not 0 <= strength <= 1:
        raise BadValue("strength", strength, "a number from 0 (the model is free) to 1 (the keyframe is kept)")
    if strength is not None and hard:
        raise BadValue("strength", strength, "hard: true or a strength, not both; a hard keyframe is kept bit for bit")
    if strength is None and hard is False:
        raise BadValue("hard", "false", "a strength from 0 to 1 as well, for a keyframe that may change")


def parse_time(time: Time) -> tuple[float, str]:
    """Number and unit of a time: ``""`` for frames, ``"s"`` for seconds, ``"%"`` for percent."""
    if clock := CLOCK.fullmatch(str(time).strip()):
        return 3600 * float(clock["hours"] or 0) + 60 * float(clock["minutes"]) + float(clock["seconds"]), "s"
    match = TIME.fullmatch(str(time).strip()) if not isinstance(time, bool) else None
    if match is None or (match["unit"] == "" and "." in match["number"]):
        raise BadValue("time", time, TIMES)
    return float(match["number"]), match["unit"]


def frame_at(time: Time, num_frames: int, fps: float) -> int:
    """The frame nearest to ``time``.

    Frame ``n`` is shown from ``n / fps`` seconds on; 0% is the first frame and 100% the last.

    Raises:
        BadValue: outside the clip.
    """
    number, unit = parse_time(time)
    last = num_frames - 1
    if unit == "%":
        frame, allowed = number / 100 * last, "0% to 100%"
    elif unit == "s":
        frame = number * fps
        allowed = f"0s to {last / fps:g}s, of {num_frames} frames at {fps:g} per second; 100% is the last one"
    else:
        frame, allowed = number, f"a frame from 0 to {last}"
    if not isfinite(frame) or round(frame) > last or (unit == "%" and number > 100):
        raise BadValue("time", time, allowed)
    return round(frame)


def frame_shown_at(time: Time, times: Sequence[float]) -> int:
    """The frame nearest to ``time`` in a video whose frames are shown at ``times`` (seconds after the first frame).

    Raises:
        BadValue: outside the video.
    """
    number, unit = parse_time(time)
    if unit != "s":
        return frame_at(time, len(times), 1.0)
    longest = max((after - before for before, after in pairwise(times)), default=0.0)
    if number > times[-1] + longest:
        raise BadValue("time", time, f"0s to {times[-1]:.4g}s, of {len(times)} frames")
    return min(range(len(times)), key=lambda index: abs(times[index] - number))
