"""Proposals without a phase 1: the truth with noise."""

from typing import final

from interp_refiner.core import Clip, Draws, non_negative
from interp_refiner.forward.scheduled_sampling.confidence import ProposalConfidence
from interp_refiner.forward.scheduled_sampling.probability import Probability
from interp_refiner.forward.scheduled_sampling.scheduled_sampling import Proposals, Replacing


@final
class Noisy(Replacing):
    """Every frame has a proposal, ``z0 + sigma eps``. This noise is separate from the corruption's.

    Args:
        probability, exempt_endpoints, confidence: as in :class:`Replacing`.
        sigma: standard deviation of the noise, in units of latent standard deviation.

    Raises:
        BadValue: a ``sigma`` that is negative or not finite.
    """

    def __init__(
        self,
        probability: Probability | None = None,
        exempt_endpoints: bool = False,
        confidence: ProposalConfidence | None = None,
        sigma: float = 0.3,
    ):
        super().__init__(probability, exempt_endpoints, confidence)
        self.sigma = non_negative("sigma", sigma, "in units of latent standard deviation")

    def propose(self, clip: Clip, draws: Draws) -> Proposals | None:
        noise = draws.normal("proposal", clip.latents)
        available = clip.latents.new_ones(clip.batch_size, clip.num_frames).bool()
        return Proposals(clip.latents + self.sigma * noise, available)
