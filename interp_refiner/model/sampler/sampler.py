"""Samplers: functions that turn a corrupted clip at tau = 1 into a video, given a callable for clean estimates."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted, Draws, Reflection, per_frame
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.sampler.guidance import CleanEstimate, Guidance, NoGuidance
from interp_refiner.model.sampler.views import OneView, Views


def one_jump(clean_estimate: CleanEstimate, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
    """The clean estimate at tau = 1: the conditional mean, best in squared error. Given frames are exact."""
    return corrupted.keep_given(clean_estimate(corrupted))


def hierarchical(
    clean_estimate: CleanEstimate, corrupted: Corrupted, corruption: Corruption
) -> Float[Tensor, "b c t *space"]:
    """Estimates the clean clip, corrupts it again one level finer, and repeats down to level 1.

    This is cold diffusion (Bansal et al. 2022, algorithm 1) on the plan's nested keyframes. The keyframes that a finer
    level adds are taken from the estimate; given frames are exact. A model that estimates the next finer level instead
    of the clean clip also works: only the new keyframes are read, and the level finer than 1 is the clean clip.

    The new keyframes have the confidence that scheduled sampling gives to keyframes that are not given (``never``: 1).
    """
    state, estimate = corrupted, corrupted.x
    for _ in range(corrupted.plan.num_levels):
        running = per_frame((state.level > 0).unsqueeze(1).expand(state.known.shape), estimate)
        estimate = torch.where(running, clean_estimate(state), estimate)
        state = corruption.at_level(state, (state.level - 1).clamp(min=0), estimate)
    return corrupted.keep_given(estimate)


def check_views(views: Views, guidance: Guidance) -> None:
    """Refuses, with :class:`BadValue`, guidance with mirrored views, which have no prompt."""
    if views.count > 1 and not isinstance(guidance, NoGuidance):
        raise BadValue("sampler.views", repr(views), "`one`: guidance needs a prompt, and mirrored views have none")


class Sampler(ABC):
    """A sampling function with its settings.

    Args:
        guidance: modifies every clean estimate; None for no guidance.
        views: views of the clip whose clean estimates are averaged; None for the clip alone.

    Raises:
        BadValue: mirrored views with classifier-free guidance.

    Attributes:
        descends: whether it goes from level to level, so that estimates of the next finer level suffice.
        of_distilled: whether it uses every estimate as a sample, which needs a distilled model.
    """

    descends: ClassVar[bool] = False
    of_distilled: ClassVar[bool] = False

    def __init__(self, guidance: Guidance | None = None, views: Views | None = None):
        self.guidance, self.views = guidance or NoGuidance(), views or OneView()
        check_views(self.views, self.guidance)

    @abstractmethod
    def __call__(
        self, clean_estimate: CleanEstimate, corrupted: Corrupted, draws: Draws, corruption: Corruption
    ) -> Float[Tensor, "b c t *space"]:
        """A clip from its corruption at tau = 1; given frames are equal bit for bit.

        Clean estimates are those of :meth:`estimates`.
        """

    def estimates(self, clean_estimate: CleanEstimate, reflections: Sequence[Reflection]) -> CleanEstimate:
        """The clean estimate, averaged over views and guided. ``reflections``: see :class:`Views`."""
        return self.guidance(self.views(clean_estimate, reflections))

    @property
    def passes(self) -> int:
        """The number of network evaluations of one clean estimate: one per view, or two with guidance."""
        return self.views.count * (1 if isinstance(self.guidance, NoGuidance) else 2)

    @property
    def leaves_start(self) -> bool:
        """Whether it needs clean estimates at ``tau < 1``."""
        return False

    def of_steps(self, steps: int) -> "Sampler":
        """The same sampler with another number of steps; itself if it has no such setting."""
        return self

    @abstractmethod
    def evaluations(self, num_levels: int) -> int:
        """The number of clean estimates for a clip of ``num_levels`` levels."""

    def check(self, corruption: Corruption) -> None:
        """Refuses, with :class:`BadValue`, a corruption that this sampler cannot start from."""
        self.views.check(corruption.reflections)


class OneJump(Sampler):
    """:func:`one_jump`, or a part of the way from the interpolation to it:

        x = zbar + strength (z0_hat - zbar)

    Args:
        guidance, views: see :class:`Sampler`.
        strength: in (0, 1]; 1 for the whole way.

    Raises:
        BadValue: a strength outside (0, 1]; or as :class:`Sampler`.
    """

    def __init__(self, guidance: Guidance | None = None, views: Views | None = None, strength: float = 1.0):
        super().__init__(guidance, views)
        if not 0 < strength <= 1:
            raise BadValue("strength", strength, "a number above 0, up to 1 (the interpolation itself is strength 0)")
        self.strength = strength

    def evaluations(self, num_levels: int) -> int:
        return 1

    def __call__(
        self, clean_estimate: CleanEstimate, corrupted: Corrupted, draws: Draws, corruption: Corruption
    ) -> Float[Tensor, "b c t *space"]:
        estimate = one_jump(self.estimates(clean_estimate, corruption.reflections), corrupted)
        if self.strength == 1:
            return estimate
        return corrupted.keep_given(torch.lerp(corrupted.interpolation.to(estimate.dtype), estimate, self.strength))


class Hierarchical(Sampler):
    """:func:`hierarchical`."""

    descends = True

    def evaluations(self, num_levels: int) -> int:
        return num_levels

    def __call__(
        self, clean_estimate: CleanEstimate, corrupted: Corrupted, draws: Draws, corruption: Corruption
    ) -> Float[Tensor, "b c t *space"]:
        return hierarchical(self.estimates(clean_estimate, corruption.reflections), corrupted, corruption)
