"""Noise: how strongly every frame is noised, from where it stands between its keyframes, and how alike neighbours are.

A profile is a function of the neighbours alone, 0 on known frames; docs/method.md, Corruption, has the table.
"""

import warnings
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Draws, Neighbours


def autoregressive(white: Float[Tensor, "b c t *space"], correlation: float) -> Float[Tensor, "b c t *space"]:
    """White noise made into a stationary AR(1) process in time, in place; at 0 it stays as it is, bit for bit.

    eps_0 = xi_0        eps_t = rho eps_{t-1} + sqrt(1 - rho^2) xi_t        E eps_i eps_j = rho^|i - j|
    """
    if correlation:
        for frame in range(1, white.shape[2]):
            white[:, :, frame].mul_((1 - correlation**2) ** 0.5).add_(white[:, :, frame - 1], alpha=correlation)
    return white


class NoiseProfile(ABC):
    """``m[b, t]``, the relative noise amplitude of every frame, and the law of the unit noise that it scales.

    Without state: subclasses give the profile of missing frames, :meth:`__call__` zeroes the known ones.

    Args:
        temporal_correlation: rho, of the noise of neighbouring frames (:func:`autoregressive`); 0 is white. What an
            interpolation gets wrong in one frame it gets wrong in the next: residuals of motion-compensated
            interpolation have about 0.5.

    Raises:
        BadValue: a correlation outside [0, 1).
    """

    def __init__(self, temporal_correlation: float = 0.0):
        if not 0 <= temporal_correlation < 1:
            raise BadValue("temporal_correlation", temporal_correlation, "a number from 0 (white) to below 1")
        self.temporal_correlation = temporal_correlation

    def draw(self, draws: Draws, name: str, like: Float[Tensor, "b c t *space"]) -> Float[Tensor, "b c t *space"]:
        """``eps``: standard normal in every position, correlated in time, from the draw called ``name``."""
        return autoregressive(draws.normal(name, like), self.temporal_correlation)

    def amplitude(self, sigma: float) -> float:
        """The amplitude that goes with this profile, ``sigma`` itself unless there is nothing to scale."""
        return sigma

    def of_clips(self, num_frames: int) -> "NoiseProfile":
        """The profile that clips of ``num_frames`` frames have, for use on others; itself where equal."""
        return self

    @abstractmethod
    def missing(self, neighbours: Neighbours) -> Float[Tensor, "b t"]:
        """The profile on missing frames; values on known frames are ignored."""

    def __call__(self, neighbours: Neighbours) -> Float[Tensor, "b t"]:
        """The profile of every frame, 0 on known ones."""
        return self.missing(neighbours).masked_fill(neighbours.known, 0.0)


class Noiseless(NoiseProfile):
    """``m = 0``: plain interpolation; any ``sigma`` is normalised to 0 with a warning, so that sweeps compose."""

    def amplitude(self, sigma: float) -> float:
        if sigma != 0:
            warnings.warn(f"corruption=none has no noise: sigma={sigma} is taken as 0", stacklevel=3)
        return 0.0

    def missing(self, neighbours: Neighbours) -> Float[Tensor, "b t"]:
        return torch.zeros(neighbours.known.shape, device=neighbours.known.device)


class Gauss(NoiseProfile):
    """``m = 1``: the same noise on every missing frame."""

    def missing(self, neighbours: Neighbours) -> Float[Tensor, "b t"]:
        return torch.ones(neighbours.known.shape, device=neighbours.known.device)


class BrownianBridge(NoiseProfile):
    """``m = sqrt(4 dl dr / (gap gap_max))``, ``gap_max = T - 1``; with one neighbour ``min(1, sqrt(4 d / gap_max))``.

    The standard deviation of a Brownian bridge pinned at both keyframes (its variance is ``dl dr / gap``), scaled to
    1 in the middle of a gap as long as the clip. One-sided, the limit of a gap whose far end goes to infinity.

    Args:
        num_frames: T; None for that of the clip at hand.
        temporal_correlation: see :class:`NoiseProfile`.

    Raises:
        BadValue: fewer than 2 frames.
    """

    def __init__(self, num_frames: int | None = None, temporal_correlation: float = 0.0):
        super().__init__(temporal_correlation)
        if num_frames is not None and num_frames < 2:
            raise BadValue("num_frames", num_frames, "at least 2, or null for the length of the clip at hand")
        self.num_frames = num_frames

    def of_clips(self, num_frames: int) -> "NoiseProfile":
        return BrownianBridge(self.num_frames or num_frames, self.temporal_correlation)

    def missing(self, neighbours: Neighbours) -> Float[Tensor, "b t"]:
        gap_max = (self.num_frames or neighbours.known.shape[1]) - 1
        dl, dr = neighbours.distance_left.float(), neighbours.distance_right.float()
        between = (4 * dl * dr / (neighbours.gap * gap_max).clamp(min=1)).sqrt()
        beyond = (4 * dl / gap_max).sqrt().clamp(max=1)
        return torch.where(neighbours.one_sided, beyond, between)


class Triangular(NoiseProfile):
    """``m = 2 min(dl, dr) / gap``; 1 with one neighbour. Kept for comparison with :class:`BrownianBridge`."""

    def missing(self, neighbours: Neighbours) -> Float[Tensor, "b t"]:
        between = 2 * neighbours.distance / neighbours.gap.clamp(min=1)
        return torch.where(neighbours.one_sided, 1.0, between)
