"""What every interpolator shares: known frames untouched, float32 inside, missing frames never read."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from interp_refiner.core import Neighbours, neighbours, per_frame

PART = "interpolator."  # before the names under which parts of an interpolator appear in a profile


@dataclass(frozen=True)
class Interpolation:
    """A sequence rebuilt from its known frames.

    Attributes:
        latents: ``zbar``.
        confidence: 1 on known frames; on missing ones what the interpolator thinks of its own guess, 0 if nothing. Per
            position, or with axes of size 1 where it is one number per frame.
        roughness: of the flow that it was made with; None where there is no flow.
    """

    latents: Float[Tensor, "b c t *space"]
    confidence: Float[Tensor, "b t *ones"]
    roughness: Float[Tensor, ""] | None = None


class Interpolator(nn.Module, ABC):
    """Fills missing frames from known ones (DESIGN section 4).

    Before the first and after the last known frame the nearest one is held; nothing is extrapolated.

    Attributes:
        segment_local: whether a missing frame depends on its two bracketing keyframes only.
        keeps_known: whether :meth:`fill` itself returns known frames bit for bit, which saves a pass over memory.
    """

    segment_local: ClassVar[bool]
    keeps_known: ClassVar[bool] = False

    @final
    def forward(self, values: Float[Tensor, "b c t *space"], known: Bool[Tensor, "b t"]) -> Interpolation:
        """``zbar`` and its confidence.

        Args:
            values: keyframe values. Missing frames may hold anything, NaN included: they are never read.
            known: the keyframes, at least one per sample.

        Returns:
            ``latents`` in the dtype of ``values``, equal to it bit for bit on known frames. Half precision is computed
            in float32 and rounded once, also under autocast.
        """
        near = neighbours(known)
        exact = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
        with torch.autocast(values.device.type, enabled=False):
            filled = self.fill(exact, near)
        latents = filled.latents
        if not self.keeps_known:
            latents = torch.where(per_frame(known, latents), exact, latents)
        on_known = known.view(*known.shape, *[1] * (filled.confidence.ndim - 2))
        return Interpolation(latents.to(values.dtype), filled.confidence.masked_fill(on_known, 1.0), filled.roughness)

    @abstractmethod
    def fill(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        """Fills the missing frames of ``values`` (float32 or float64); known frames may come out as anything."""


def no_confidence(values: Float[Tensor, "b c t *space"]) -> Float[Tensor, "b t *ones"]:
    """0 for every frame: the interpolator has no opinion on its own guesses."""
    return values.new_zeros(values.shape[0], values.shape[2], *[1] * (values.ndim - 3))
