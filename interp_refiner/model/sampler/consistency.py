"""Sampling with one to four evaluations of a distilled model (docs/method.md, One step)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted, Draws
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.sampler.guidance import CleanEstimate
from interp_refiner.model.sampler.sampler import Sampler
from interp_refiner.model.sampler.spacing import Even, Spacing
from interp_refiner.model.sampler.views import Views


def consistency(
    clean_estimate: CleanEstimate,
    corrupted: Corrupted,
    taus: Sequence[float],
    noise: Callable[[str], Tensor],
) -> Float[Tensor, "b c t *space"]:
    """Multistep consistency sampling (Song et al. 2023, algorithm 1) on the bridge; given frames are exact:

        x = zbar + s eps        z = f(x, 1)        x' = (1 - tau') z + tau' (zbar + s xi)        z = f(x', tau') ...

    Args:
        clean_estimate: ``f``, which maps a corrupted clip to the end of the ODE through it.
        corrupted: a clip at ``tau = 1``.
        taus: bridge times at which ``f`` is evaluated, decreasing from 1.
        noise: ``xi`` by the name of its draw, distributed like the corruption's ``eps``.
    """
    zbar, one = corrupted.interpolation.float(), torch.ones_like(corrupted.tau)
    estimate = clean_estimate(corrupted)
    for number, tau in enumerate(taus[1:], 1):
        noised = zbar + corrupted.amplitude * noise(f"consistency_{number}")
        estimate = clean_estimate(corrupted.at(tau * one, (1 - tau) * estimate.float() + tau * noised))
    return corrupted.keep_given(estimate)


@final
class Consistency(Sampler):
    """:func:`consistency`. It has no guidance, because a student has learned its teacher's guided estimates.

    Args:
        steps: number of evaluations, N.
        spacing: their bridge times; None for even spacing.
        views: see :class:`Sampler`.

    Raises:
        BadValue: no step.
    """

    of_distilled = True

    def __init__(self, steps: int = 1, spacing: Spacing | None = None, views: Views | None = None):
        super().__init__(views=views)
        if steps < 1:
            raise BadValue("steps", steps, "a number of steps >= 1")
        self.steps, self.spacing = steps, spacing or Even()

    @property
    def leaves_start(self) -> bool:
        return self.steps > 1

    def of_steps(self, steps: int) -> "Consistency":
        return Consistency(steps, self.spacing, self.views)

    def evaluations(self, num_levels: int) -> int:
        return self.steps

    def __call__(
        self, clean_estimate: CleanEstimate, corrupted: Corrupted, draws: Draws, corruption: Corruption
    ) -> Float[Tensor, "b c t *space"]:
        taus = self.spacing(self.steps, corrupted.sigma)[:-1]
        noise = partial(corruption.fresh, draws, corrupted=corrupted)
        return consistency(self.estimates(clean_estimate, corruption.reflections), corrupted, taus, noise)
