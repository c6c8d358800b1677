"""Broadcasts per-sample and per-frame numbers to latents ``[b, c, t, *space]``, and selects frames."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


def per_sample(value: Shaped[Tensor, " b"], latents: Tensor) -> Tensor:
    """``[b]`` -> ``[b, 1, 1, ...]`` with as many axes as ``latents``."""
    return value.view(-1, *[1] * (latents.ndim - 1))


def per_frame(value: Shaped[Tensor, "b t"], latents: Tensor) -> Tensor:
    """``[b, t]`` -> ``[b, 1, t, 1, ...]`` with as many axes as ``latents``."""
    return value.view(value.shape[0], 1, value.shape[1], *[1] * (latents.ndim - 3))


def frame_mean(value: Float[Tensor, "b c t *space"]) -> Float[Tensor, "b t"]:
    """Mean over channels and space: one number per frame."""
    return value.transpose(1, 2).flatten(2).mean(-1)


def masked_mean(value: Float[Tensor, "b t"], mask: Shaped[Tensor, "b t"]) -> Float[Tensor, " b"]:
    """Mean over the frames where ``mask`` is true; 0 without such frames. Other values are never read."""
    return value.masked_fill(~mask, 0.0).sum(1) / mask.sum(1).clamp(min=1)


def take_frames(latents: Float[Tensor, "b c t *space"], index: Int[Tensor, "b n"]) -> Float[Tensor, "b c n *space"]:
    """Frame ``index[b, n]`` of every sample, by copying whole rows of space."""
    b, c, t = latents.shape[:3]
    rows = latents.reshape(b * c * t, -1)
    # row of frame (b, c, t) in the flattened [b * c * t, space] is (b * C + c) * T + t
    device = index.device
    sample = torch.arange(b, device=device).view(b, 1, 1) * (c * t)
    channel = torch.arange(c, device=device).view(1, c, 1) * t
    row = (sample + channel + index.unsqueeze(1)).flatten()
    return rows.index_select(0, row).view(b, c, index.shape[1], *latents.shape[3:])


def precise(value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``value`` in float32, or unchanged if it is float64."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
