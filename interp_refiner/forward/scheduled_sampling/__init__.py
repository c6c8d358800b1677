"""Scheduled sampling: which keyframes are replaced by proposals, and where the proposals come from."""

from interp_refiner.forward.scheduled_sampling.confidence import (
    AnnealedConfidence,
    ConstantConfidence,
    CosineConfidence,
    LinearConfidence,
    ProposalConfidence,
)
from interp_refiner.forward.scheduled_sampling.never import Never
from interp_refiner.forward.scheduled_sampling.noisy import Noisy
from interp_refiner.forward.scheduled_sampling.phase1 import Phase1
from interp_refiner.forward.scheduled_sampling.probability import Probability
from interp_refiner.forward.scheduled_sampling.scheduled_sampling import Proposals, Replacing, ScheduledSampling
from interp_refiner.forward.scheduled_sampling.self import Self

__all__ = [
    "AnnealedConfidence",
    "ConstantConfidence",
    "CosineConfidence",
    "LinearConfidence",
    "Never",
    "Noisy",
    "Phase1",
    "Probability",
    "ProposalConfidence",
    "Proposals",
    "Replacing",
    "ScheduledSampling",
    "Self",
]
