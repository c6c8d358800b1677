"""The confidence input for keyframes that may be proposals; it is never a weight of the loss."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue


class ProposalConfidence(ABC):
    """The confidence of keyframes that may be replaced. It depends on the level alone, so it cannot reveal the draw."""

    @abstractmethod
    def __call__(self, sparsity: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The confidence in 0..1 at sparsity ``s / S``: 0 if every frame is known, 1 at the sparsest level."""


@final
@dataclass(frozen=True)
class ConstantConfidence(ProposalConfidence):
    """The same at every level.

    Raises:
        BadValue: a value outside 0..1.
    """

    value: float = 0.5

    def __post_init__(self) -> None:
        _check("value", self.value)

    def __call__(self, sparsity: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return torch.full_like(sparsity, self.value)


@dataclass(frozen=True)
class AnnealedConfidence(ProposalConfidence):
    """From ``finest`` at ``s / S = 0`` to ``sparsest`` at 1: proposals of finer levels have been refined more often.

    Raises:
        BadValue: a value outside 0..1.
    """

    finest: float = 0.75
    sparsest: float = 0.25

    def __post_init__(self) -> None:
        _check("finest", self.finest)
        _check("sparsest", self.sparsest)

    @final
    def __call__(self, sparsity: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return self.finest + (self.sparsest - self.finest) * self.progress(sparsity)

    @abstractmethod
    def progress(self, sparsity: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The weight of ``sparsest``; increases from 0 to 1 with the sparsity."""


@final
class LinearConfidence(AnnealedConfidence):
    """A straight line."""

    def progress(self, sparsity: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return sparsity


@final
class CosineConfidence(AnnealedConfidence):
    """Half a cosine, flat at both ends: ``(1 - cos(pi s / S)) / 2``."""

    def progress(self, sparsity: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return (1 - torch.cos(math.pi * sparsity)) / 2


def _check(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise BadValue(name, value, "a confidence from 0 to 1")
