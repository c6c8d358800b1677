"""Cubic Hermite spline in time."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp_refiner.core import Neighbours, per_frame, take_frames
from interp_refiner.forward.interpolator.interpolator import Interpolation, Interpolator, no_confidence


class Spline(Interpolator):
    """Cubic Hermite spline through unevenly spaced keyframes, with three-point tangents.

    Between keyframes l and r, at ``a = (t - l) / h`` with ``h = r - l``,

        zbar = z_l + a^2 (3 - 2a) (z_r - z_l) + a (1 - a)^2 h m_l - a^2 (1 - a) h m_r

    Each tangent is that of the parabola through three of the keyframes l' < l < r < r', with ``h- = l - l'`` and
    ``h+ = r' - r``,

        m_l = (h- d0 + h d-) / (h- + h)       d0 = (z_r - z_l) / h,  d- = (z_l - z_l') / h-
        m_r = (h+ d0 + h d+) / (h+ + h)       d+ = (z_r' - z_r) / h+

    At the outermost keyframes the tangent is ``d0``. So a segment depends on up to four keyframes.
    """

    segment_local: ClassVar[bool] = False

    def fill(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        before, after = outer_neighbours(near)
        across, across_before, across_after = spline_weights(near, before, after)
        filled = take_frames(values, near.left)
        # a sum of differences, so that a clip that is constant in time stays so, bit for bit
        for start, end, weight in (
            (near.left, near.right, across),
            (before, near.left, across_before),
            (near.right, after, across_after),
        ):
            difference = take_frames(values, end).sub_(take_frames(values, start))
            filled = filled.addcmul_(difference, per_frame(weight.to(values.dtype), values))
        return Interpolation(filled, no_confidence(values))


def outer_neighbours(near: Neighbours) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]:
    """``l'`` and ``r'``: the keyframes before l and after r; at the ends of the clip l and r themselves."""
    last = near.known.shape[1] - 1
    before = near.left.gather(1, (near.left - 1).clamp(min=0))
    after = near.right.gather(1, (near.right + 1).clamp(max=last))
    return before, after


def spline_weights(
    near: Neighbours, before: Int[Tensor, "b t"], after: Int[Tensor, "b t"]
) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"], Float[Tensor, "b t"]]:
    """Weights of ``z_r - z_l``, ``z_l - z_l'`` and ``z_r' - z_r``, to be added to ``z_l``; all 0 without a gap."""
    a, h = near.alpha, near.gap
    tangent_left, tangent_right = a * (1 - a) ** 2, -(a**2) * (1 - a)
    left_own, left_outer = _tangent_weights(h, near.left - before)
    right_own, right_outer = _tangent_weights(h, after - near.right)
    across = a**2 * (3 - 2 * a) + tangent_left * left_own + tangent_right * right_own
    return across, tangent_left * left_outer, tangent_right * right_outer


def _tangent_weights(
    h: Int[Tensor, "b t"], h_outer: Int[Tensor, "b t"]
) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
    """``h m`` as weights on the keyframe differences over h and over the segment of length ``h_outer`` next to it."""
    whole = (h + h_outer).clamp(min=1)
    own = torch.where(h_outer > 0, h_outer / whole, 1.0)
    return own, h**2 / (h_outer.clamp(min=1) * whole)
