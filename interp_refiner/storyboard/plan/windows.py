"""Videos longer than the model's clips: overlapping windows share keyframes; clean estimates are cross-faded."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted, per_frame
from interp_refiner.model.sampler import CleanEstimate
from interp_refiner.storyboard.plan.levels import Levels


@dataclass(frozen=True)
class Window:
    """Latent frames ``start`` to ``stop - 1``."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


def windows(keyframes: Sequence[int], num_frames: int, length: int) -> list[Window]:
    """Overlapping windows of at most ``length`` frames that meet at keyframes and cover the clip.

    Every window starts and ends at a keyframe, as training clips do, except at the start and the end of the clip. A
    window is as long as possible. The next one starts at the last keyframe from which it reaches further; if possible
    that is the keyframe before the joint, so that both windows contain the gap before the joint. Because the last
    window would be short, windows are then extended to the front, see :func:`_drawn_out`.

    Args:
        keyframes: latent frames that are known, at least one.
        num_frames: length of the clip in latent frames.
        length: length of the model's clips.

    Raises:
        BadValue: two neighbouring keyframes, or an end of the clip and its keyframe, are too far apart for one window.
    """
    if num_frames <= length:
        return [Window(0, num_frames)]
    stops = sorted({*keyframes, num_frames - 1})
    found: list[Window] = []
    start = 0
    while True:
        end = max((stop for stop in stops if start <= stop < start + length), default=-1)
        inside = [key for key in keyframes if start <= key <= end]
        if end <= (found[-1].stop - 1 if found else -1) or not inside:
            _refuse_gap(keyframes, num_frames, length)
        found.append(Window(start, end + 1))
        if end == num_frames - 1:
            return _drawn_out(found, keyframes, length)
        beyond = min(stop for stop in stops if stop > end)
        # a window from the joint's keyframe always reaches further, unless the gap after it is too long
        shared = [key for key in inside if start < key and beyond < key + length]
        before = [key for key in shared if key < end]
        start = before[-1] if before else end


def _drawn_out(parts: Sequence[Window], keyframes: Sequence[int], length: int) -> list[Window]:
    """Lets every window but the first start as early as its length allows; at most two contain an inner frame."""
    made = list(parts)
    for n in range(len(made) - 1, 0, -1):
        stop, beyond = made[n].stop, made[n - 2].stop - 1 if n > 1 else 0
        earliest = max(stop - length, made[n - 1].start + 1, beyond)
        made[n] = Window(min((key for key in keyframes if key >= earliest), default=made[n].start), stop)
    return made


def _refuse_gap(keyframes: Sequence[int], num_frames: int, length: int) -> None:
    ends = sorted({0, *keyframes, num_frames - 1})
    start, gap = max(((a, b - a) for a, b in pairwise(ends)), key=lambda found: found[1])
    near = (
        f"keyframes at most {length - 1} latent frames apart, and the first and last at most {length - 1} from the ends"
    )
    allowed = f"{near}: the model sees {length} latent frames at a time"
    raise BadValue("keyframes", f"a gap of {gap} after latent frame {start}", allowed)


def fade_weights(parts: Sequence[Window], num_frames: int) -> Float[Tensor, "n t"]:
    """A partition of unity over time: each window's weight in every frame.

    Inside an overlap the earlier window's weight decreases linearly, and the later one's increases, from keyframe to
    keyframe. If windows share only one frame, both have the weight 1/2 there.
    """
    frame = torch.arange(num_frames, dtype=torch.float32)
    weights = torch.zeros(len(parts), num_frames)
    for row, part in zip(weights, parts, strict=True):
        row[part.start : part.stop] = 1.0
    for n, (left, right) in enumerate(pairwise(parts)):
        overlap = slice(right.start, left.stop)
        last = left.stop - 1 - right.start
        rising = (frame[overlap] - right.start) / last if last > 0 else torch.tensor([0.5])
        weights[n, overlap] *= 1 - rising
        weights[n + 1, overlap] *= rising
    return weights / weights.sum(0)


class CrossFaded:
    """A clean estimate of a long clip from estimates of its windows,

        z0_hat = sum_i w_i z0_hat_i,    sum_i w_i = 1 in every frame

    as MultiDiffusion joins crops of a panorama (Bar-Tal et al. 2023, equation 5). State and noise are those of one long
    clip, so a sampler works on a clip without joints. If all windows agree, the estimate equals theirs.

    Args:
        estimates: one per window.
        parts: the windows, see :func:`windows`.
        levels: finds the level of each window, whose keyframes may be denser or sparser than the clip's.

    Attributes:
        disagreement: from the last call, for every joint: RMS difference of the two windows over the missing frames of
            their overlap; None if it has none.
    """

    def __init__(self, estimates: Sequence[CleanEstimate], parts: Sequence[Window], levels: Levels):
        self.estimates, self.parts, self.levels = list(estimates), list(parts), levels
        self.disagreement: list[Float[Tensor, ""] | None] = []

    def __call__(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        if len(self.parts) == 1:
            return self.estimates[0](corrupted)
        made = [
            estimate(self.levels.of_density(corrupted.frames(part.start, part.stop)))
            for estimate, part in zip(self.estimates, self.parts, strict=True)
        ]
        weights = fade_weights(self.parts, corrupted.x.shape[2]).to(corrupted.x)
        whole = torch.zeros_like(corrupted.x)
        for piece, part, weight in zip(made, self.parts, weights, strict=True):
            row = per_frame(weight[part.start : part.stop].unsqueeze(0), piece)
            whole[:, :, part.start : part.stop] += row * piece
        self.disagreement = [self._differ(made, n, corrupted.known) for n in range(len(made) - 1)]
        return whole

    def _differ(self, made: list[Tensor], n: int, known: Bool[Tensor, "b t"]) -> Float[Tensor, ""] | None:
        left, right = self.parts[n], self.parts[n + 1]
        free = (~known[0, right.start : left.stop]).nonzero().flatten()
        if not len(free):
            return None
        a = made[n][:, :, right.start - left.start :].index_select(2, free)
        b = made[n + 1][:, :, : left.stop - right.start].index_select(2, free)
        return (a - b).float().square().mean().sqrt()
