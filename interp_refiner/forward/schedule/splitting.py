"""Adds keyframes to a set by always splitting the largest gap."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp_refiner.core import neighbours
from interp_refiner.forward.schedule.schedule import ranks


def rank_by_splitting(
    forced: Bool[Tensor, "b t"],
    base: Bool[Tensor, "b t"],
    jitter: float = 0.0,
    noise: Float[Tensor, "b n"] | None = None,
) -> Int[Tensor, "b t"]:
    """Ranks forced frames first, then the other frames of ``base``, then the rest in the order of :func:`split_gap`.

    Frames of ``base`` are ordered by their distance to the nearest forced frame, the farthest first.
    """
    num_frames = base.shape[1]
    priority = split_gap(base, jitter, noise)  # at most T on frames outside the base
    priority = torch.where(base, num_frames + 1 + neighbours(forced).distance, priority)
    return ranks(-priority.masked_fill(forced, 2 * num_frames + 1))


def split_gap(
    keyframes: Bool[Tensor, "b t"],
    jitter: float = 0.0,
    noise: Float[Tensor, "b n"] | None = None,
) -> Int[Tensor, "b t"]:
    """The length of the gap that each missing frame splits, if the largest gap (leftmost on ties) is always split next.

    A gap ``(l, r)`` is split at ``l + floor((r - l) (1/2 + jitter (w - 1/2)))``. Frames outside the outermost keyframes
    form a gap that reaches to frame -1 or T. Both parts of a gap are smaller than the gap. So gaps are split in
    decreasing order of ``split_gap``, and all frames can descend the binary tree of splits at the same time.

    Args:
        keyframes: the set to start from, at least one frame per sample.
        jitter: 0 splits in the middle, 1 anywhere inside the gap.
        noise: uniform numbers for frames -1..T, needed for jitter. ``w`` of a gap is the sum of the numbers of its two
            ends, modulo 1. It is uniform, and independent between two gaps that share only one end.

    Returns:
        The lengths, 2..T on missing frames; meaningless on keyframes.
    """
    num_frames = keyframes.shape[1]
    near = neighbours(keyframes)
    frame = near.frame
    left = torch.where(near.left > frame, -1, near.left)
    right = torch.where(near.right < frame, num_frames, near.right)
    # a split in the middle leaves parts of at most ceil(gap / 2); a jittered split shortens a gap by at least one frame
    depth = num_frames.bit_length() if noise is None else num_frames
    for _ in range(depth):
        gap = right - left
        offset = gap // 2
        if noise is not None:
            w = (noise.gather(1, left + 1) + noise.gather(1, right + 1)) % 1
            offset = (gap * (0.5 + jitter * (w - 0.5))).long()
        split = left + torch.minimum(offset, gap - 1).clamp(min=1)
        # the frame at the split keeps its gap, because it belongs to neither part
        left, right = torch.where(frame > split, split, left), torch.where(frame < split, split, right)
    return right - left


def frame_mask(frames: list[int], like: Bool[Tensor, "b t"]) -> Bool[Tensor, " t"]:
    """True on ``frames``, on the device of ``like``, without waiting for it."""
    mask = torch.zeros(like.shape[1], dtype=torch.bool)
    mask[frames] = True
    return mask.to(like.device, non_blocking=True)
