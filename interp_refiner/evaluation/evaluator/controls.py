"""Controls: clips of known quality. Their results show what a metric measures."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import BadValue, neighbours, per_frame, take_frames
from interp_refiner.data.medium.soft import local_mean


def nearest_keyframe_copy(
    values: Float[Tensor, "b c t *space"], known: Bool[Tensor, "b t"]
) -> Float[Tensor, "b c t *space"]:
    """Every frame is a copy of its nearest keyframe, the left one on ties: perfectly sharp, with motion in jumps."""
    near = neighbours(known)
    return take_frames(values, torch.where(near.distance_left <= near.distance_right, near.left, near.right))


def noise_of_its_size(
    sample: Float[Tensor, "b c t *space"],
    interpolation: Float[Tensor, "b c t *space"],
    noise: Float[Tensor, "b c t *space"],
) -> Float[Tensor, "b c t *space"]:
    """The interpolation plus noise as large as a sample's correction: the right energy, but no structure.

    With ``d = sample - interpolation`` and the mean over 3x3 positions (for a path: no mean),

        interpolation + mean(d^2)^1/2 noise

    for every channel and frame. If a sampler is no more realistic than this control, it has added only energy.

    Args:
        sample: the clips of a sampler.
        interpolation: the interpolation that the sampler started from.
        noise: standard normal, independent of the sample's noise.
    """
    energy = (sample - interpolation).square()
    return interpolation + (local_mean(energy) if energy.ndim == 5 else energy).sqrt() * noise


def shuffled_keyframes(
    clean: Float[Tensor, "b c t *space"], known: Bool[Tensor, "b t"]
) -> Float[Tensor, "b c t *space"]:
    """The truth, but every clip's known frames are those of the clip before it in the batch: wrong keyframes.

    A refiner that uses its keyframes must do worse from these.

    Raises:
        BadValue: a batch of one clip, which has no other to take keyframes from.
    """
    if len(clean) < 2:
        raise BadValue("clean", f"{len(clean)} clip", "at least 2 clips to shuffle keyframes among")
    return torch.where(per_frame(known, clean), clean.roll(1, 0), clean)
