"""A small interpolator of three hypotheses, for tests of what is made of them."""

import torch

from interp_refiner.core import take_frames
from interp_refiner.forward.interpolator import Interpolation, Interpolator
from interp_refiner.forward.interpolator.linear import lerp_frames
from interp_refiner.forward.interpolator.interpolator import no_confidence


class ThreeLaws(Interpolator):
    """Straight lines; the left keyframe held, in the upper rows of gaps; the right keyframe, trusted by a half."""

    segment_local = True
    num_hypotheses = 3

    def fill(self, values, near):
        line = lerp_frames(values, near)
        left, right = (take_frames(values, side) for side in (near.left, near.right))
        always = torch.ones_like(values[:, 0])
        upper = always.clone()
        if upper.ndim == 4:
            upper[:, :, upper.shape[2] // 2 :] = 0.0
        present = torch.stack([always, upper, always / 2], 1)
        return Interpolation(line, no_confidence(values), None, torch.stack([line, left, right], 1), present)
