"""Synthetic clips whose quality is known."""

import torch
from torch import Tensor


def moving_textures(b: int, t: int = 13, h: int = 12, w: int = 16, seed: int = 0) -> Tensor:
    """``[b, 2, t, h, w]`` of unit variance: sums of plane waves, each clip gliding at its own constant velocity."""
    g = torch.Generator().manual_seed(seed)
    waves = 12
    wave_vector = torch.randn(b, waves, 2, generator=g) * 0.8  # radians per position
    velocity = torch.randn(b, 1, 2, generator=g) * 0.8  # positions per frame
    phase = torch.rand(b, 2, waves, generator=g) * 2 * torch.pi
    y, x = torch.arange(h).float(), torch.arange(w).float()
    time = torch.arange(t).float()
    travelled = (wave_vector * velocity).sum(2)
    angle = (
        wave_vector[:, :, 0, None, None, None] * y.view(h, 1)
        + wave_vector[:, :, 1, None, None, None] * x
        - travelled[:, :, None, None, None] * time.view(t, 1, 1)
    )
    return torch.cos(angle.unsqueeze(1) + phase[..., None, None, None]).sum(2) / (waves / 2) ** 0.5


def every(step: int, b: int, t: int) -> Tensor:
    """Keyframes at frames 0, step, 2 step, ...; t - 1 is a multiple of step."""
    return (torch.arange(t) % step == 0).expand(b, t)


def linear(clips: Tensor, step: int) -> Tensor:
    """Linear interpolation between every ``step``-th frame, one frame at a time."""
    out = clips.clone()
    for frame in range(clips.shape[2]):
        left = min(frame // step * step, clips.shape[2] - 1 - step)
        alpha = (frame - left) / step
        out[:, :, frame] = (1 - alpha) * clips[:, :, left] + alpha * clips[:, :, left + step]
    return out
