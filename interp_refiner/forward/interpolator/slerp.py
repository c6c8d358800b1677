"""Spherical linear interpolation of channel vectors."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import Neighbours, per_frame, take_frames
from interp_refiner.forward.interpolator.interpolator import Interpolation, Interpolator, no_confidence

DEGENERATE = 1e-3  # radians; nearer to 0 or pi, the arc is (almost) a straight line or undefined


class Slerp(Interpolator):
    """Rotates the channel vector of each position from one keyframe to the next, its norm interpolated linearly.

    With the angle ``w`` between ``z_l`` and ``z_r`` (Shoemake 1985),

        zbar = n (sin((1 - a) w) z_l / |z_l| + sin(a w) z_r / |z_r|) / sin(w),    n = |z_l| + a (|z_r| - |z_l|)

    and a straight line where the angle is 0, pi or undefined.
    """

    segment_local: ClassVar[bool] = True

    def fill(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        left, right = take_frames(values, near.left), take_frames(values, near.right)
        alpha = per_frame(near.alpha.to(values.dtype), values)
        return Interpolation(slerp(left, right, alpha), no_confidence(values))


def slerp(
    left: Float[Tensor, "b c *rest"], right: Float[Tensor, "b c *rest"], alpha: Float[Tensor, "b 1 *a"]
) -> Float[Tensor, "b c *rest"]:
    """Spherical interpolation along axis 1 between two tensors, see :class:`Slerp`.

    Computed as a correction of linear interpolation, ``lerp + p z_l + q z_r``, with p = q = 0 exactly where
    ``z_l = z_r``.
    """
    norm_left, norm_right = _norm(left), _norm(right)
    zero = (norm_left == 0) | (norm_right == 0)
    safe_left, safe_right = norm_left.masked_fill(zero, 1.0), norm_right.masked_fill(zero, 1.0)
    unit_left, unit_right = left / safe_left, right / safe_right
    # Kahan's angle: accurate near 0 and pi, where the arc cosine is not
    angle = 2 * torch.atan2(_norm(unit_left - unit_right), _norm(unit_left + unit_right))
    line = zero | (angle < DEGENERATE) | (angle > torch.pi - DEGENERATE)
    angle = angle.masked_fill(line, 1.0)
    norm = torch.lerp(norm_left, norm_right, alpha) / torch.sin(angle)
    more_left = norm * torch.sin((1 - alpha) * angle) / safe_left - (1 - alpha)
    more_right = norm * torch.sin(alpha * angle) / safe_right - alpha
    return (
        torch.lerp(left, right, alpha)
        .addcmul_(left, more_left.masked_fill(line, 0.0))
        .addcmul_(right, more_right.masked_fill(line, 0.0))
    )


def _norm(z: Float[Tensor, "b c *rest"]) -> Float[Tensor, "b 1 *rest"]:
    """Euclidean norm along axis 1, with gradient 0 where it is 0."""
    square = z.square().sum(1, keepdim=True)  # torch.linalg.vector_norm takes ten times as long along this axis
    zero = square == 0
    return square.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)
