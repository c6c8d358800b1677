"""Laws of motion: models of the path of objects through a gap."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.forward.interpolator.flow_warp import warp
from interp_refiner.forward.interpolator.motion_fields import Motion
from interp_refiner.forward.interpolator.splatting import splat

FAINT = 0.1  # places with much less splatted weight than this are holes; a standing position has weight 1


@dataclass(frozen=True)
class Gap:
    """Missing frames, each with the keyframes around it and their displacements: ``l' < l < t < r < r'``.

    Times are in frames.

    Attributes:
        left, right: the keyframes l and r.
        since, until: ``t - l`` and ``r - t``.
        before, after: ``l - l'`` and ``r' - r``; any number >= 1 if l' or r' does not exist.
        has_before, has_after: whether l' (or r') exists and anything moves.
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
        flow = gap.to_before.flow * (-gap.since / gap.before)
        return guess_of(splat(gap.left, flow, gap.to_before.weight), gap.has_before)


class Backward(LawOfMotion):
    """The right keyframe moves back with the velocity that it has in the gap after: ``p - v (r - t)``."""

    def __call__(self, gap: Gap) -> Guess:
        flow = gap.to_after.flow * (-gap.until / gap.after)
        return guess_of(splat(gap.right, flow, gap.to_after.weight), gap.has_after)


class Quadratic(LawOfMotion):
    """Constant acceleration: objects move along the parabolas through three keyframes (Xu et al. 2019), blended:

        x(t) = (1 - a) x_l + a x_r - (t - l) (r - t) (w_l c_l + w_r c_r)         a = (t - l) / (r - l)

    ``c_l`` and ``c_r`` are half the accelerations at l and r, the second divided differences of positions. With both,
    ``w_l = 1 - a`` and ``w_r = a`` give the cubic of Catmull and Rom (Overhauser 1968). If only one is known, it has
    weight 1, which gives a parabola. Both keyframes are moved along the path and blended by ``1 - a`` and ``a``.
    """

    def __call__(self, gap: Gap) -> Guess:
        a, bulge = gap.since / gap.length, gap.since * gap.until
        to_right, to_left, before, after = (m.flow for m in (gap.to_right, gap.to_left, gap.to_before, gap.to_after))
        c_l = (to_right / gap.length + before / gap.before) / (gap.length + gap.before)
        c_r = (after / gap.after + to_left / gap.length) / (gap.length + gap.after)
        w_l = torch.where(gap.has_after, 1 - a, 1.0) * gap.has_before
        w_r = torch.where(gap.has_before, a, 1.0) * gap.has_after
        from_left = a * to_right - bulge * (w_l * c_l + w_r * warp(c_r, to_right))
        from_right = (1 - a) * to_left - bulge * (w_l * warp(c_l, to_left) + w_r * c_r)
        left, weight_left = splat(gap.left, from_left, (1 - a) * gap.to_right.weight)
        right, weight_right = splat(gap.right, from_right, a * gap.to_left.weight)
        return guess_of((left + right, weight_left + weight_right), gap.has_before | gap.has_after)


class LinearBlend(LawOfMotion):
    """Nothing moves; the left keyframe fades into the right one."""

    def __call__(self, gap: Gap) -> Guess:
        blend = torch.lerp(gap.left, gap.right, gap.since / gap.length)
        return Guess(blend, torch.ones_like(blend[:, :1]))


class Nearest(LawOfMotion):
    """The nearest keyframe; in the middle of a gap the left one."""

    def __call__(self, gap: Gap) -> Guess:
        nearest = torch.where(gap.since <= gap.until, gap.left, gap.right)
        return Guess(nearest, torch.ones_like(nearest[:, :1]))


def guess_of(sums: tuple[Float[Tensor, "f c h w"], Float[Tensor, "f 1 h w"]], exists: Bool[Tensor, "f 1 1 1"]) -> Guess:
    """``S / W`` of a :func:`splat`, with ``present = W / (W + FAINT)``, or 0 if its keyframe does not exist."""
    values, weight = sums
    return Guess(values / weight.clamp(min=FAINT * 1e-3), torch.where(exists, weight / (weight + FAINT), 0.0))
