"""Laws of motion: how what is seen in the keyframes gets through a gap."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.forward.interpolator.flow_warp import warp
from interp_refiner.forward.interpolator.splatting import splat

COVERING = 2.0  # e to this times a way in positions: what goes further covers what goes less far
FURTHEST = 4.0  # beyond so many positions everything covers alike
FAINT = 0.1  # of the weight of one standing position: a place that gets less of it is a hole


@dataclass(frozen=True)
class Gap:
    """Missing frames, each with what its keyframes tell: ``l' < l < t < r < r'``.

    Times are in frames, fields in positions (x, y). Where there is no keyframe l' or r', its field is 0.

    Attributes:
        left, right: the keyframes l and r.
        since, until: ``t - l`` and ``r - t``.
        before, after: ``l - l'`` and ``r' - r``; 1 where there is none.
        has_before, has_after: whether there is, and anything moves at all.
        to_right, to_left: fields from l to r, at l, and from r to l, at r.
        to_before, to_after: fields from l to l', at l, and from r to r', at r.
    """

    left: Float[Tensor, "f c h w"]
    right: Float[Tensor, "f c h w"]
    since: Float[Tensor, "f 1 1 1"]
    until: Float[Tensor, "f 1 1 1"]
    before: Float[Tensor, "f 1 1 1"]
    after: Float[Tensor, "f 1 1 1"]
    has_before: Bool[Tensor, "f 1 1 1"]
    has_after: Bool[Tensor, "f 1 1 1"]
    to_right: Float[Tensor, "f 2 h w"]
    to_left: Float[Tensor, "f 2 h w"]
    to_before: Float[Tensor, "f 2 h w"]
    to_after: Float[Tensor, "f 2 h w"]

    @property
    def length(self) -> Float[Tensor, "f 1 1 1"]:
        """``r - l``."""
        return self.since + self.until


@dataclass(frozen=True)
class Guess:
    """What a law makes of missing frames, and where it has something to say: 0 nowhere, 1 fully."""

    frames: Float[Tensor, "f c h w"]
    present: Float[Tensor, "f 1 h w"]


class LawOfMotion(ABC):
    """A way through a gap."""

    @abstractmethod
    def __call__(self, gap: Gap) -> Guess:
        """The missing frames of ``gap``."""


class Forward(LawOfMotion):
    """The left keyframe goes on with the velocity that it had in the gap before: ``p + v (t - l)``."""

    def __call__(self, gap: Gap) -> Guess:
        velocity = -gap.to_before / gap.before
        return carried(splat(gap.left, velocity * gap.since, covering(velocity)), gap.has_before)


class Backward(LawOfMotion):
    """The right keyframe came with the velocity that it has in the gap after: ``p - v (r - t)``."""

    def __call__(self, gap: Gap) -> Guess:
        velocity = gap.to_after / gap.after
        return carried(splat(gap.right, -velocity * gap.until, covering(velocity)), gap.has_after)


class Quadratic(LawOfMotion):
    """Along the parabolas through three keyframes, blended (Xu et al. 2019; Overhauser 1968):

        x(t) = line(t) - (t - l) (r - t) ((1 - a) c_l + a c_r)         a = (t - l) / (r - l)

    ``c_l`` and ``c_r`` are half the accelerations that the displacements around l and around r tell, second divided
    differences. With either alone it is one parabola, with both the cubic of Catmull and Rom. Both keyframes are
    carried along it and blended by ``1 - a`` and ``a``.
    """

    def __call__(self, gap: Gap) -> Guess:
        a = gap.since / gap.length
        at_left = (gap.to_right / gap.length + gap.to_before / gap.before) / (gap.length + gap.before)
        at_right = (gap.to_after / gap.after + gap.to_left / gap.length) / (gap.length + gap.after)
        weight_left = torch.where(gap.has_after, 1 - a, 1.0) * gap.has_before
        weight_right = torch.where(gap.has_before, a, 1.0) * gap.has_after
        bend_left = weight_left * at_left + weight_right * warp(at_right, gap.to_right)
        bend_right = weight_left * warp(at_left, gap.to_left) + weight_right * at_right
        bulge = gap.since * gap.until
        sides = (
            (gap.left, a * gap.to_right - bulge * bend_left, gap.to_right / gap.length, 1 - a),
            (gap.right, (1 - a) * gap.to_left - bulge * bend_right, gap.to_left / gap.length, a),
        )
        parts = [splat(image, way, share * covering(velocity)) for image, way, velocity, share in sides]
        total = parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]
        return carried(total, gap.has_before | gap.has_after)


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


def covering(velocity: Float[Tensor, "f 2 h w"]) -> Float[Tensor, "f 1 h w"]:
    """Weights of a splat in which what moves covers what stands; what most of the picture does is standing."""
    ground = velocity[..., ::3, ::3].flatten(2).median(2).values[..., None, None]
    x, y = (velocity - ground).split(1, 1)
    return (COVERING * (x * x + y * y).sqrt()).clamp(max=FURTHEST).exp()


def carried(
    total: tuple[Float[Tensor, "f c h w"], Float[Tensor, "f 1 h w"]], has_side: Bool[Tensor, "f 1 1 1"]
) -> Guess:
    """A splat after its division; holes are absent, and so is all of it where a side is missing."""
    values, weight = total
    return Guess(values / weight.clamp(min=FAINT * 1e-3), torch.where(has_side, weight / (weight + FAINT), 0.0))
