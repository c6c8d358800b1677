"""Four quality measures of a clip, and the thresholds that leave clips out."""

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from interp_refiner.core import BadValue


class Measures(NamedTuple):
    """Quality of one clip, from grey ``g`` in 0..1 and frame differences ``d_f = mean |g_f - g_(f-1)|``.

    Attributes:
        brightness: mean of g.
        motion: mean of d.
        sharpness: variance of the Laplacian of 255 g (Pech-Pacheco et al. 2000), mean over first, middle, last frame.
        jump: max of d minus median of d; large if there is a cut inside the clip.
    """

    brightness: float
    motion: float
    sharpness: float
    jump: float


def measured(clip: UInt8[Tensor, "3 t h w"]) -> Measures:
    """The measures of a clip; motion and jump are taken from every other row and column."""
    coarse = grey(clip[:, :, ::2, ::2])
    differences = coarse.diff(dim=0).abs().mean((1, 2)) if len(coarse) > 1 else torch.zeros(1)
    shown = grey(clip[:, [0, clip.shape[1] // 2, -1]]) * 255
    jump = differences.max() - differences.median()
    numbers = (coarse.mean(), differences.mean(), laplacian(shown).var((1, 2), correction=0).mean(), jump)
    return Measures(*(float(f"{number:.4g}") for number in map(float, numbers)))


def grey(pixels: UInt8[Tensor, "3 t h w"]) -> Float[Tensor, "t h w"]:
    """The mean of red, green and blue, in 0..1."""
    return pixels.float().mean(0) / 255


def laplacian(g: Float[Tensor, "t h w"]) -> Float[Tensor, "t y x"]:
    """The sum of the four neighbours minus four times the pixel, without the border."""
    middle = g[:, 1:-1, 1:-1]
    return g[:, :-2, 1:-1] + g[:, 2:, 1:-1] + g[:, 1:-1, :-2] + g[:, 1:-1, 2:] - 4 * middle


@dataclass(frozen=True)
class Quality:
    """Thresholds that leave clips out; None turns one off. See :class:`Measures` for the units.

    Attributes:
        brightness: a clip below it is too dark.
        motion: a clip below it is static. A picture has no motion, so any threshold above 0 leaves pictures out.
        sharpness: a clip below it is blurred.
        jump: a clip above it has a cut inside.

    Raises:
        BadValue: a threshold below 0, or above 1 (sharpness has no upper limit).
    """

    brightness: float | None = None
    motion: float | None = None
    sharpness: float | None = None
    jump: float | None = None

    def __post_init__(self) -> None:
        for name in Measures._fields:
            most = inf if name == "sharpness" else 1.0
            if (value := getattr(self, name)) is not None and not 0 <= value <= most:
                allowed = "a number from 0 on, or null" if most == inf else "a number from 0 to 1, or null"
                raise BadValue(name, value, allowed)

    def fault(self, found: Measures) -> str:
        """Why a clip is left out; empty if it is kept."""
        for name, why in (("brightness", "too dark"), ("motion", "static"), ("sharpness", "blurred")):
            if (least := getattr(self, name)) is not None and getattr(found, name) < least:
                return why
        return "a cut inside" if self.jump is not None and found.jump > self.jump else ""
