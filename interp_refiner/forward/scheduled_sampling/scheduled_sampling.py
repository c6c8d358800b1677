"""The base classes of scheduled sampling, which replaces keyframes by proposals."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import Clip, Corrupted, Draws
from interp_refiner.forward.scheduled_sampling.confidence import ConstantConfidence, ProposalConfidence
from interp_refiner.forward.scheduled_sampling.probability import Probability


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
    """Replaces known keyframes by proposals, so that the model learns to correct them (Bengio et al. 2015).

    Attributes:
        replaces: whether keyframes may be replaced; then only explicitly given keyframes are constraints.
        needs_anchors: whether the proposals come with the clips, from anchor shards.
        from_model: whether the training step makes the proposals with the model; then :meth:`propose` returns None.
    """

    replaces: ClassVar[bool] = True
    needs_anchors: ClassVar[bool] = False
    from_model: ClassVar[bool] = False

    @abstractmethod
    def propose(self, clip: Clip, draws: Draws) -> Proposals | None:
        """Proposals for a batch; None if there are none, or if the training step makes them."""

    @abstractmethod
    def chosen(self, known: Bool[Tensor, "b t"], draws: Draws, step: int | None = None) -> Bool[Tensor, "b t"]:
        """The known frames drawn for replacement after ``step`` optimizer steps; may include given frames."""

    @abstractmethod
    def confidence(self, sparsity: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The confidence input of a keyframe that is not given, at ``s / S``; it does not depend on the draw."""

    def check_shown(self, corrupted: Corrupted) -> None:  # noqa: B027 (few have anything to refuse)
        """Refuses an evaluation batch without all requested proposals. Reads the masks on the host.

        Raises:
            BadValue: every keyframe should be a proposal, and some have none.
        """


class Replacing(ScheduledSampling):
    """Draws every keyframe for replacement with probability p, independently.

    A frame's draw is the same at every level, so two levels of one clip show the same proposals.

    Args:
        probability: p over the steps of training; None for the defaults.
        exempt_endpoints: whether the first and the last frame always keep the truth.
        confidence: of a keyframe that may be replaced; None for 0.5 at every level.
    """

    def __init__(
        self,
        probability: Probability | None = None,
        exempt_endpoints: bool = False,
        confidence: ProposalConfidence | None = None,
    ):
        self.probability, self.exempt_endpoints = probability or Probability(), exempt_endpoints
        self.proposal_confidence = confidence or ConstantConfidence()

    @final
    def confidence(self, sparsity: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return self.proposal_confidence(sparsity)

    @final
    def chosen(self, known: Bool[Tensor, "b t"], draws: Draws, step: int | None = None) -> Bool[Tensor, "b t"]:
        num_frames = known.shape[1]
        coin = draws.uniform("replacement", num_frames, known.device)
        return self.replaceable(known) & (coin < self.probability(step))

    @final
    def replaceable(self, known: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
        """The known frames that a draw may replace: all of them, or all but the first and the last."""
        if not self.exempt_endpoints:
            return known
        frame = torch.arange(known.shape[1], device=known.device)
        return known & (frame > 0) & (frame < known.shape[1] - 1)
