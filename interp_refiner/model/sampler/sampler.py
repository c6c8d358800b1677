"""From a corrupted clip at tau = 1 to a video: plain functions over a callable that returns the clean estimate."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import Corrupted, Draws, per_frame
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.sampler.guidance import CleanEstimate, Guidance, NoGuidance


def one_jump(clean_estimate: CleanEstimate, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
    """The clean estimate at tau = 1: the conditional mean, best in squared error. Given frames are exact."""
    return corrupted.keep_given(clean_estimate(corrupted))


def hierarchical(
    clean_estimate: CleanEstimate, corrupted: Corrupted, corruption: Corruption
) -> Float[Tensor, "b c t *space"]:
    """Clean estimate, re-corruption one level finer with the plan's nested keyframes, and again, down to level 1.

    Cold-diffusion style (Bansal et al. 2022, algorithm 1). The keyframes that a finer level adds are taken from the
    estimate; given frames are exact. An estimate of the next finer level instead of the clean clip serves as well: its
    new keyframes are all that is read, and one level finer than 1 it is the clean clip.

    The model is told of its own keyframes what scheduled sampling tells of any that is not given: under ``never``,
    which knows true ones only, confidence 1.
    """
    state, estimate = corrupted, corrupted.x
    for _ in range(corrupted.plan.num_levels):
        running = per_frame((state.level > 0).unsqueeze(1).expand(state.known.shape), estimate)
        estimate = torch.where(running, clean_estimate(state), estimate)
        state = corruption.at_level(state, (state.level - 1).clamp(min=0), estimate)
    return corrupted.keep_given(estimate)


class Sampler(ABC):
    """A sampling function with its settings.

    Args:
        guidance: what becomes of every clean estimate; None leaves it as it is.

    Attributes:
        descends: it goes down level by level, so an estimate of the next finer level is all that it needs.
        of_distilled: it takes every estimate for a sample, so it needs a model that was distilled.
    """

    descends: ClassVar[bool] = False
    of_distilled: ClassVar[bool] = False

    def __init__(self, guidance: Guidance | None = None):
        self.guidance = guidance or NoGuidance()

    @abstractmethod
    def __call__(
        self, clean_estimate: CleanEstimate, corrupted: Corrupted, draws: Draws, corruption: Corruption
    ) -> Float[Tensor, "b c t *space"]:
        """A clip from its corruption at tau = 1, given frames bit for bit."""

    @property
    def leaves_start(self) -> bool:
        """Whether it asks for clean estimates at ``tau < 1``."""
        return False

    def of_steps(self, steps: int) -> "Sampler":
        """The same sampler with another number of steps; itself where it has none to choose."""
        return self

    @abstractmethod
    def evaluations(self, num_levels: int) -> int:
        """How many clean estimates a clip of ``num_levels`` levels takes."""

    def check(self, corruption: Corruption) -> None:  # noqa: B027 - most samplers start from any corruption
        """Refuses, with :class:`BadValue`, a corruption that this sampler cannot start from."""


class OneJump(Sampler):
    """:func:`one_jump`."""

    def evaluations(self, num_levels: int) -> int:
        return 1

    def __call__(
        self, clean_estimate: CleanEstimate, corrupted: Corrupted, draws: Draws, corruption: Corruption
    ) -> Float[Tensor, "b c t *space"]:
        return one_jump(self.guidance(clean_estimate), corrupted)


class Hierarchical(Sampler):
    """:func:`hierarchical`."""

    descends = True

    def evaluations(self, num_levels: int) -> int:
        return num_levels

    def __call__(
        self, clean_estimate: CleanEstimate, corrupted: Corrupted, draws: Draws, corruption: Corruption
    ) -> Float[Tensor, "b c t *space"]:
        return hierarchical(self.guidance(clean_estimate), corrupted, corruption)
