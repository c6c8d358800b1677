"""The interpolation error between any two keyframes: the cost that keyframe selection minimises."""

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, frame_mean
from interp_refiner.forward.interpolator import Interpolator


def segment_cost(
    latents: Float[Tensor, "b c t *space"], interpolator: Interpolator, max_elements: int = 2**21
) -> Float[Tensor, "b t t"]:
    """``C[i, j] = sum over i < t < j of e_t(i, j)``: the error of the frames between keyframes i and j.

    ``e_t`` is the squared error of frame t, averaged over channels and space. Over t it is a sum, not a mean, because
    only sums add up to the error of the clip. It takes ``O(T^3)`` interpolated frames per sample, in ``O(T)`` calls of
    the interpolator.

    Args:
        latents: the clean clip.
        interpolator: any interpolator whose segments depend on their own two keyframes only.
        max_elements: numbers interpolated at once (at least one segment of every sample); small enough for a CPU cache.

    Returns:
        The cost in float32 (float64 for float64 latents), 0 if there is no frame between i and j.

    Raises:
        BadValue: an interpolator that is not segment-local.
    """
    check_segment_local(interpolator)
    if latents.dtype in (torch.bfloat16, torch.float16):
        latents = latents.float()
    b, _, num_frames = latents.shape[:3]
    cost = latents.new_zeros(b, num_frames, num_frames)
    for gap in range(2, num_frames):
        # every window of gap + 1 frames is one segment: [b, segments, c, gap + 1, *space]
        windows = latents.unfold(2, gap + 1, 1).movedim((2, -1), (1, 3))
        at_once = max(1, max_elements // windows[:, 0].numel())
        errors = [_segment_error(part, interpolator) for part in windows.split(at_once, dim=1)]
        cost.diagonal(gap, 1, 2).copy_(torch.cat(errors, dim=1))
    return cost


def check_segment_local(interpolator: Interpolator) -> None:
    """Refuses, with :class:`BadValue`, an interpolator whose segments depend on more than their own two keyframes."""
    if not interpolator.segment_local:
        name = type(interpolator).__name__.lower()
        raise BadValue("interpolator", name, "a segment-local one; this one also reads keyframes of other gaps")


def _segment_error(windows: Float[Tensor, "b n c g *space"], interpolator: Interpolator) -> Float[Tensor, "b n"]:
    """The error of each window interpolated from its first and last frame, summed over frames."""
    clips = windows.flatten(0, 1)
    known = torch.zeros(clips.shape[0], clips.shape[2], dtype=torch.bool, device=clips.device)
    known[:, 0] = known[:, -1] = True
    filled = interpolator(clips, known).latents
    return frame_mean((filled - clips).square()).sum(1).view(windows.shape[:2])
