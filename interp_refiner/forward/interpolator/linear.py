"""Linear interpolation in time."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import Neighbours, per_frame, take_frames
from interp_refiner.forward.interpolator.interpolator import Interpolation, Interpolator, no_confidence


class Linear(Interpolator):
    """``zbar = z_l + alpha (z_r - z_l)`` between the bracketing keyframes l and r."""

    segment_local: ClassVar[bool] = True
    keeps_known: ClassVar[bool] = True

    def fill(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        return Interpolation(lerp_frames(values, near), no_confidence(values))


def lerp_frames(values: Float[Tensor, "b c t *space"], near: Neighbours) -> Float[Tensor, "b c t *space"]:
    """Linear interpolation; known frames come out bit for bit."""
    # Known frames get alpha = -0.0: z + (-0.0) * (z - z) is z for every z. With alpha = 0.0, z = -0.0 would become 0.0.
    alpha = torch.where(near.gap > 0, near.alpha, -0.0).to(values.dtype)
    left, right = take_frames(values, near.left), take_frames(values, near.right)
    return left.lerp_(right, per_frame(alpha, values))
