"""Noise: the amplitude of every frame, by its position between keyframes, and the correlation between frames.

A profile is a function of the neighbours alone, 0 on known frames; docs/method.md, Corruption, has the table.
"""

import warnings
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted, Draws, Neighbours, per_frame, positive, take_frames
from interp_refiner.forward.interpolator.motion_fields import local_mean


def autoregressive(white: Float[Tensor, "b c t *space"], correlation: float) -> Float[Tensor, "b c t *space"]:
    """Turns white noise ``xi`` into a stationary AR(1) process in time, in place, with ``rho = correlation``:

        eps_0 = xi_0        eps_t = rho eps_{t-1} + sqrt(1 - rho^2) xi_t        E eps_i eps_j = rho^|i - j|

    ``rho = 0`` changes nothing, bit for bit.
    """
    if correlation:
        for frame in range(1, white.shape[2]):
            white[:, :, frame].mul_((1 - correlation**2) ** 0.5).add_(white[:, :, frame - 1], alpha=correlation)
    return white


class NoiseProfile(ABC):
    """``m[b, t]``, the relative noise amplitude of every frame, and the distribution of the unit noise that it scales.

    It has no state. Subclasses define the profile of missing frames; :meth:`__call__` sets known frames to 0.

    Args:
        temporal_correlation: rho, the correlation of the noise of neighbouring frames (:func:`autoregressive`); 0 is
            white noise. Residuals of motion-compensated interpolation have a correlation of about 0.5.

    Attributes:
        structured: whether ``eps`` depends on the interpolation and is not white in space.

    Raises:
        BadValue: a correlation outside [0, 1).
    """

    structured: ClassVar[bool] = False

    def __init__(self, temporal_correlation: float = 0.0):
        if not 0 <= temporal_correlation < 1:
            raise BadValue("temporal_correlation", temporal_correlation, "a number from 0 (white) to below 1")
        self.temporal_correlation = temporal_correlation

    def white(self, draws: Draws, name: str, like: Float[Tensor, "b c t *space"]) -> Float[Tensor, "b c t *space"]:
        """Standard normal numbers, correlated only in time, from the draw called ``name``."""
        return autoregressive(draws.normal(name, like), self.temporal_correlation)

    def draw(
        self, draws: Draws, name: str, like: Float[Tensor, "b c t *space"], num_hypotheses: int
    ) -> Float[Tensor, "b n t *space"]:
        """The standard normal numbers from which :meth:`eps` is computed."""
        return self.white(draws, name, like)

    def eps(self, drawn: Float[Tensor, "b n t *space"], corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        """``eps``, of unit variance, from the numbers that :meth:`draw` drew and from the interpolation."""
        return drawn

    def amplitude(self, sigma: float) -> float:
        """The amplitude that this profile uses: ``sigma``, or 0 for a profile without noise."""
        return sigma

    def of_clips(self, num_frames: int) -> "NoiseProfile":
        """A profile that gives clips of any length the amplitudes of clips with ``num_frames`` frames."""
        return self

    def local_scale(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"] | None:
        """``g``, the noise amplitude of every position relative to ``m``, from the interpolation; None if it is 1."""
        return None

    @abstractmethod
    def missing(self, neighbours: Neighbours) -> Float[Tensor, "b t"]:
        """The profile on missing frames; values on known frames are ignored."""

    def __call__(self, neighbours: Neighbours) -> Float[Tensor, "b t"]:
        """The profile of every frame, 0 on known ones."""
        return self.missing(neighbours).masked_fill(neighbours.known, 0.0)


class Noiseless(NoiseProfile):
    """``m = 0``: plain interpolation. Any ``sigma`` becomes 0 with a warning, so that sweeps over sigma work."""

    def amplitude(self, sigma: float) -> float:
        if sigma != 0:
            warnings.warn(f"corruption=none has no noise: sigma={sigma} is replaced by 0", stacklevel=3)
        return 0.0

    def missing(self, neighbours: Neighbours) -> Float[Tensor, "b t"]:
        return torch.zeros(neighbours.known.shape, device=neighbours.known.device)


class Gauss(NoiseProfile):
    """``m = 1``: the same noise on every missing frame."""

    def missing(self, neighbours: Neighbours) -> Float[Tensor, "b t"]:
        return torch.ones(neighbours.known.shape, device=neighbours.known.device)


class BrownianBridge(NoiseProfile):
    """``m = sqrt(4 dl dr / (gap gap_max))``, ``gap_max = T - 1``; with one neighbour ``min(1, sqrt(4 d / gap_max))``.

    This is the standard deviation of a Brownian bridge pinned at both keyframes (its variance is ``dl dr / gap``),
    scaled to 1 in the middle of a gap as long as the clip. With one neighbour it is the limit for an infinite gap.

    Args:
        num_frames: T; None for the length of each clip.
        temporal_correlation: see :class:`NoiseProfile`.

    Raises:
        BadValue: fewer than 2 frames.
    """

    def __init__(self, num_frames: int | None = None, temporal_correlation: float = 0.0):
        super().__init__(temporal_correlation)
        if num_frames is not None and num_frames < 2:
            raise BadValue("num_frames", num_frames, "at least 2, or null for the length of each clip")
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


class Disagreement(NoiseProfile):
    """``m = 1``, and noise along the differences between the interpolator's hypotheses:

        g eps = sqrt(1 - w^2) sum_j a_j (h_j - zbar) / sqrt(k - 1) + w g xi            j = 2..k
        g^2   = floor^2 + local mean of  1/(k-1) sum_j (h_j - zbar)^2

    An interpolation is wrong where its hypotheses disagree, and right nearly everywhere else. White noise of a constant
    amplitude is too weak in the first places and too strong in the others. The fields ``a_j`` are standard normal,
    smooth over 3 x 3 positions, and shared by all channels, so the noise looks like moving objects instead of speckle.
    ``xi`` is white. Without it, the model could compute from ``x`` at ``tau < 1`` the part of the truth that no
    hypothesis explains. The local mean is over 3 x 3 positions, for each channel. ``sigma`` is in units of the
    disagreement ``g``; residuals are about half as large (experiments/refinement).

    If an interpolator has no hypotheses other than ``zbar``, the two keyframes around a frame take their place.

    Args:
        white: ``w``, the amplitude of the white part, in 0..1; at 1 all noise is white.
        floor: the amplitude where all hypotheses agree, in units of latent standard deviation.
        temporal_correlation: see :class:`NoiseProfile`.

    Raises:
        BadValue: ``white`` outside 0..1, or a floor that is not positive.
    """

    structured: ClassVar[bool] = True

    def __init__(self, white: float = 0.2, floor: float = 0.02, temporal_correlation: float = 0.0):
        super().__init__(temporal_correlation)
        if not 0 <= white <= 1:
            raise BadValue("white", white, "a share of the amplitude from 0 to 1")
        self.white_share = white
        self.floor = positive("floor", floor, "in units of latent standard deviation")

    def draw(
        self, draws: Draws, name: str, like: Float[Tensor, "b c t *space"], num_hypotheses: int
    ) -> Float[Tensor, "b n t *space"]:
        """``xi`` and the unsmoothed fields ``a_j``: ``n = c + k - 1`` channels, or ``c + 2`` without hypotheses."""
        b, c = like.shape[:2]
        drawn = like.new_empty(1).expand(b, c + (num_hypotheses - 1 or 2), *like.shape[2:])  # takes no memory
        return self.white(draws, name, drawn)

    @staticmethod
    def differences(corrupted: Corrupted) -> Float[Tensor, "b n c t *space"]:
        """``h_j - zbar``; if the interpolator has no hypotheses, ``h_j`` are the left and the right keyframe."""
        if (offered := corrupted.alternatives) is not None:
            return offered.offsets
        near = corrupted.neighbours
        keyframes = torch.stack([take_frames(corrupted.values, side) for side in (near.left, near.right)], 1)
        return keyframes - corrupted.interpolation.unsqueeze(1)

    def local_scale(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        spread = smooth(self.differences(corrupted).float().square().mean(1), "replicate")
        return (spread + self.floor**2).sqrt().to(corrupted.interpolation.dtype)

    def eps(self, drawn: Float[Tensor, "b n t *space"], corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        g, differences = corrupted.local_scale, self.differences(corrupted)
        assert g is not None
        white, fields = drawn.tensor_split([g.shape[1]], 1)
        if fields.ndim == 5:
            fields = 3 * smooth(fields, "circular")  # 3 restores unit variance
        share = ((1 - self.white_share**2) / differences.shape[1]) ** 0.5
        along = share * (fields.unsqueeze(2) * differences).sum(1)
        return torch.where(per_frame(corrupted.known, g), white, along / g + self.white_share * white)

    def missing(self, neighbours: Neighbours) -> Float[Tensor, "b t"]:
        return torch.ones(neighbours.known.shape, device=neighbours.known.device)


def smooth(values: Float[Tensor, "b c t *space"], edge: str) -> Float[Tensor, "b c t *space"]:
    """:func:`local_mean` over 3 x 3 positions of every frame; a path, with one position per frame, does not change."""
    if values.ndim != 5:
        return values
    frames = local_mean(values.transpose(1, 2).flatten(0, 1), 3, edge)
    return frames.unflatten(0, (values.shape[0], values.shape[2])).transpose(1, 2)
