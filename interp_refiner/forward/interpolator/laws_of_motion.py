"""Laws of motion: models of the path of objects through a gap."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.forward.interpolator.flow_warp import warp
from interp_refiner.forward.interpolator.motion_fields import Motion
from interp_refiner.forward.interpolator.splatting import splat

FAINT = 0.1  # in weights of one standing position: a place that gets less is a hole


@dataclass(frozen=True)
class Gap:
    """Missing frames, each with the keyframes around it and their displacements: ``l' < l < t < r < r'``.

    Times are in frames.

    Attributes:
        left, right: the keyframes l and r.
        since, until: ``t - l`` and ``r - t``.
        before, after: ``l - l'`` and ``r' - r``; 1 where there is none.
        has_before, has_after: whether l' or r' exists, and anything moves at all.
        to_right, to_left: from l to r, and from r to l.
        to_before, to_after: from l to l', and from r to r'.
    """

    left: Float[Tensor, "f c h w"]
    right: Float[Tensor, "f c h w"]
    since: Float[Tensor, "f 1 1 1"]
    until: Float[Tensor, "f 1 1 1"]
    before: Float[Tensor, "f 1 1 1"]
    after: Float[Tensor, "f 1 1 1"]
    has_before: Bool[Tensor, "f 1 1 1"]
    has_after: Bool[Tensor, "f 1 1 1"]
    to_right: Motion
    to_left: Motion
    to_before: Motion
    to_after: Motion

    @property
    def length(self) -> Float[Tensor, "f 1 1 1"]:
        """``r - l``."""
        return self.since + self.until


@dataclass(frozen=True)
class Guess:
    """A law's estimate of missing frames, and where it is defined: 0 not at all, 1 fully."""

    frames: Float[Tensor, "f c h w"]
    present: Float[Tensor, "f 1 h w"]


class LawOfMotion(ABC):
    """A model of the motion through a gap."""

    @abstractmethod
    def __call__(self, gap: Gap) -> Guess:
        """The missing frames of ``gap``."""


class Forward(LawOfMotion):
    """The left keyframe moves on with the velocity that it had in the gap before: ``p + v (t - l)``."""

    def __call__(self, gap: Gap) -> Guess:
        way = gap.to_before.way * (-gap.since / gap.before)
        return carried(splat(gap.left, way, gap.to_before.weight), gap.has_before)


class Backward(LawOfMotion):
    """The right keyframe moved before with its velocity in the gap after it: ``p - v (r - t)``."""

    def __call__(self, gap: Gap) -> Guess:
        way = gap.to_after.way * (-gap.until / gap.after)
        return carried(splat(gap.right, way, gap.to_after.weight), gap.has_after)


class Quadratic(LawOfMotion):
    """Along the parabolas through three keyframes, blended (Xu et al. 2019; Overhauser 1968):

        x(t) = line(t) - (t - l) (r - t) ((1 - a) c_l + a c_r)         a = (t - l) / (r - l)

    ``c_l`` and ``c_r`` are half the accelerations at l and r, the second divided differences of positions. With one of
    them it is a parabola, with both the cubic of Catmull and Rom. Both keyframes are moved along it and blended by
    ``1 - a`` and ``a``.
    """

    def __call__(self, gap: Gap) -> Guess:
        a, bulge = gap.since / gap.length, gap.since * gap.until
        to_right, to_left, before, after = (m.way for m in (gap.to_right, gap.to_left, gap.to_before, gap.to_after))
        at_left = (to_right / gap.length + before / gap.before) / (gap.length + gap.before)
        at_right = (after / gap.after + to_left / gap.length) / (gap.length + gap.after)
        of_left = torch.where(gap.has_after, 1 - a, 1.0) * gap.has_before
        of_right = torch.where(gap.has_before, a, 1.0) * gap.has_after
        from_left = a * to_right - bulge * (of_left * at_left + of_right * warp(at_right, to_right))
        from_right = (1 - a) * to_left - bulge * (of_left * warp(at_left, to_left) + of_right * at_right)
        left, weight_left = splat(gap.left, from_left, (1 - a) * gap.to_right.weight)
        right, weight_right = splat(gap.right, from_right, a * gap.to_left.weight)
        return carried((left + right, weight_left + weight_right), gap.has_before | gap.has_after)


class LinearBlend(LawOfMotion):
    """Nothing moves, the left keyframe fades into the right one."""

    def __call__(self, gap: Gap) -> Guess:
        blend = torch.lerp(gap.left, gap.right, gap.since / gap.length)
        return Guess(blend, torch.ones_like(blend[:, :1]))


class Nearest(LawOfMotion):
    """The nearest keyframe, the left one in the middle."""

    def __call__(self, gap: Gap) -> Guess:
        nearest = torch.where(gap.since <= gap.until, gap.left, gap.right)
        return Guess(nearest, torch.ones_like(nearest[:, :1]))


def carried(
    total: tuple[Float[Tensor, "f c h w"], Float[Tensor, "f 1 h w"]], has_side: Bool[Tensor, "f 1 1 1"]
) -> Guess:
    """The guess from a splat, after its division. It is undefined in holes, and everywhere if its side is missing."""
    values, weight = total
    return Guess(values / weight.clamp(min=FAINT * 1e-3), torch.where(has_side, weight / (weight + FAINT), 0.0))
