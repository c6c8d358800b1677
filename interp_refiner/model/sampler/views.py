"""Several views of a clip, whose clean estimates are averaged."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import combinations
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted, Reflection
from interp_refiner.model.sampler.guidance import CleanEstimate


def self_ensemble(
    clean_estimate: CleanEstimate, corrupted: Corrupted, reflections: Sequence[Reflection]
) -> Float[Tensor, "b c t *space"]:
    """The mean of the clean estimates of all mirror images of a clip, mirrored back,

        z0_hat = 1 / |G| sum_g g^-1 z0_hat(g x)          g: every combination of the reflections

    (Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution, 2017, section 3.4). For data without
    a preferred direction and without prompts, the expected squared error cannot rise, because squared error is convex.
    Mirrored views have no prompt, see :class:`Reflection`.

    Args:
        clean_estimate: ``z0_hat`` of a corrupted clip.
        corrupted: the clip.
        reflections: along different axes.
    """
    everyone = torch.ones_like(corrupted.tau, dtype=torch.bool)
    total = clean_estimate(corrupted)
    for count in range(1, len(reflections) + 1):
        for chosen in combinations(reflections, count):
            seen = corrupted
            for reflection in chosen:
                seen = reflection(seen, everyone)
            estimate = clean_estimate(seen)
            for reflection in chosen:
                estimate = reflection.latents(estimate)
            total = total + estimate
    return total / 2 ** len(reflections)


class Views(ABC):
    """The views of a clip from which a sampler makes its clean estimate.

    Attributes:
        count: the number of views; the cost is proportional to it.
    """

    count: ClassVar[int] = 1

    def check(self, reflections: Sequence[Reflection]) -> None:  # noqa: B027 - any latents have one view
        """Refuses, with :class:`BadValue`, latents that have no such views."""

    @abstractmethod
    def __call__(self, clean_estimate: CleanEstimate, reflections: Sequence[Reflection]) -> CleanEstimate:
        """The clean estimate from all views; ``reflections`` are those of the latents, empty if there are none."""


@final
class OneView(Views):
    """The clip itself."""

    def __repr__(self) -> str:
        return "one"

    def __call__(self, clean_estimate: CleanEstimate, reflections: Sequence[Reflection]) -> CleanEstimate:
        return clean_estimate


@final
class MirroredViews(Views):
    """:func:`self_ensemble` over a clip and its mirror images along x, along y and along both: four times the cost.

    Raises:
        BadValue: on use, a codec whose latents have no mirror operation.
    """

    count = 4

    def __repr__(self) -> str:
        return "mirrored"

    def check(self, reflections: Sequence[Reflection]) -> None:
        if len(reflections) != 2:
            allowed = "one, because the codec's latents have no mirror operation (patch_dct has one)"
            raise BadValue("sampler.views", "mirrored", allowed)

    def __call__(self, clean_estimate: CleanEstimate, reflections: Sequence[Reflection]) -> CleanEstimate:
        self.check(reflections)
        return lambda corrupted: self_ensemble(clean_estimate, corrupted, reflections)
