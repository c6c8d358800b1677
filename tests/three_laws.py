"""A small interpolator with three hypotheses, and corrupted clips with it, for tests that need hypotheses."""

from typing import Any

import torch

from interp_refiner.core import Corrupted, take_frames
from interp_refiner.forward.corruption import BridgeTime, BrownianBridge, Corruption, Drawn
from interp_refiner.forward.interpolator import Interpolation, Interpolator
from interp_refiner.forward.interpolator.interpolator import no_confidence
from interp_refiner.forward.interpolator.linear import lerp_frames
from interp_refiner.forward.schedule import Uniform
from tests.factories import random_clip


class ThreeLaws(Interpolator):
    """Straight lines; the left keyframe held, of videos in the upper rows only; the right keyframe, trusted by half."""

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


def three_laws(bridge_time: BridgeTime | None = None, **settings: Any) -> Corruption:
    """A corruption of 21 frames at levels 1 to 4 whose interpolator offers three hypotheses."""
    return Corruption(Uniform(k_min=4), ThreeLaws(), BrownianBridge(), drawn=Drawn(bridge_time=bridge_time), **settings)


def clip_of_three_laws(
    bridge_time: BridgeTime | None = None, stream: str = "train", dtype: torch.dtype = torch.float32, **fields: Any
) -> Corrupted:
    """A random clip corrupted by :func:`three_laws`."""
    clip = random_clip(**fields)
    clip.latents = clip.latents.to(dtype)
    return three_laws(bridge_time)(clip, stream)
