"""Which keyframes are shown as proposals instead of the truth, and what the proposals are."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import Clip, Draws


@dataclass(frozen=True)
class Proposals:
    """Keyframe values that are not the truth.

    Attributes:
        latents: only frames in ``available`` are ever read.
        available: frames that have a proposal.
    """

    latents: Float[Tensor, "b c t *space"]
    available: Bool[Tensor, "b t"]


class ScheduledSampling(ABC):
    """Replaces known keyframes by proposals in training, so that the model learns to correct them.

    Attributes:
        replaces: proposals may occur, so only explicitly given keyframes are constraints.
    """

    replaces: ClassVar[bool] = True

    @abstractmethod
    def propose(self, clip: Clip, draws: Draws) -> Proposals | None:
        """Proposals for a batch; None where every keyframe stays the truth."""

    @abstractmethod
    def chosen(self, known: Bool[Tensor, "b t"], draws: Draws) -> Bool[Tensor, "b t"]:
        """The known frames drawn for replacement, before given ones are exempted."""


class Never(ScheduledSampling):
    """Keyframes are the truth: every frame known at the level is a constraint."""

    replaces = False

    def propose(self, clip: Clip, draws: Draws) -> Proposals | None:
        return None

    def chosen(self, known: Bool[Tensor, "b t"], draws: Draws) -> Bool[Tensor, "b t"]:
        return known & False
