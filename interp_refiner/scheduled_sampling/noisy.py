"""Proposals without a phase 1: the truth with noise."""

from typing import final

from interp_refiner.core import BadValue, Clip, Draws
from interp_refiner.scheduled_sampling.confidence import ProposalConfidence
from interp_refiner.scheduled_sampling.probability import Probability
from interp_refiner.scheduled_sampling.scheduled_sampling import Proposals, Replacing


@final
class Noisy(Replacing):
    """Every frame has a proposal, ``z0 + sigma eps``, with noise of its own (not the corruption's).

    Args:
        probability, exempt_endpoints, confidence: as in :class:`Replacing`.
        sigma: standard deviation of the noise, in units of latent standard deviation.

    Raises:
        BadValue: a negative ``sigma``.
    """

    def __init__(
        self,
        probability: Probability | None = None,
        exempt_endpoints: bool = False,
        confidence: ProposalConfidence | None = None,
        sigma: float = 0.3,
    ):
        super().__init__(probability, exempt_endpoints, confidence)
        if sigma < 0:
            raise BadValue("sigma", sigma, "a number >= 0, in units of latent standard deviation")
        self.sigma = sigma

    def propose(self, clip: Clip, draws: Draws) -> Proposals | None:
        noise = draws.normal("proposal", clip.latents)
        available = clip.latents.new_ones(clip.batch_size, clip.num_frames).bool()
        return Proposals(clip.latents + self.sigma * noise, available)
