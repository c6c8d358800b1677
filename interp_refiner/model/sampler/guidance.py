"""Classifier-free guidance."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted, NegativeEmbedding, non_negative

CleanEstimate = Callable[[Corrupted], Tensor]


def classifier_free(
    clean_estimate: CleanEstimate, corrupted: Corrupted, negative: Float[Tensor, "b l d"], scale: float
) -> Float[Tensor, "b c t *space"]:
    """The guided clean estimate (Ho and Salimans 2022, equation 6; ``z0_hat`` is affine in the score)

        z0_hat = z0_uncond + w (z0_cond - z0_uncond)

    exact at ``w = 0`` and ``w = 1``.

    Args:
        clean_estimate: ``z0_hat`` of a corrupted clip.
        corrupted: with prompt embeddings.
        negative: the embeddings used for the unconditional estimate.
        scale: w.
    """
    without = replace(corrupted, clip=replace(corrupted.clip, text=negative))
    return torch.lerp(clean_estimate(without), clean_estimate(corrupted), scale)


class Guidance(ABC):
    """Modifies the clean estimates that a sampler uses."""

    @abstractmethod
    def __call__(self, clean_estimate: CleanEstimate) -> CleanEstimate:
        """The guided estimate."""


@final
class NoGuidance(Guidance):
    """Leaves the conditional estimate unchanged."""

    def __repr__(self) -> str:
        return "none"

    def __call__(self, clean_estimate: CleanEstimate) -> CleanEstimate:
        return clean_estimate


@final
class ClassifierFree(Guidance):
    """:func:`classifier_free`: two estimates per step. For models trained with text dropout.

    Args:
        scale: w; 1 is no guidance, more follows the prompt more strongly, 0 ignores it.
        negative: a tensor file ``[L, D]``, see :class:`NegativeEmbedding`.

    Raises:
        BadValue: a scale that is negative or not finite, or no such file; on use, clips without prompt embeddings.
    """

    def __init__(self, scale: float = 2.0, negative: str | None = None):
        non_negative("scale", scale, "1 is no guidance")
        self.scale, self.negative = scale, NegativeEmbedding(negative)

    def away_from(self, negative: Float[Tensor, "l d"]) -> "ClassifierFree":
        """Guidance of the same scale with another negative embedding."""
        made = ClassifierFree(self.scale)
        made.negative = NegativeEmbedding.of(negative)
        return made

    def __repr__(self) -> str:
        return f"classifier_free(scale={self.scale:g}, negative={self.negative.path})"

    def __call__(self, clean_estimate: CleanEstimate) -> CleanEstimate:
        def guided(corrupted: Corrupted) -> Tensor:
            if corrupted.clip.text is None:
                raise BadValue("sampler.guidance", "classifier_free", "none: the clips have no prompt embeddings")
            negative = self.negative.like(corrupted.clip.text)
            return classifier_free(clean_estimate, corrupted, negative, self.scale)

        return guided
