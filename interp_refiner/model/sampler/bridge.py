"""Sampling along the bridge: coefficients of the steps, the sampling function, and the sampler with its settings."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted, Draws
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.sampler.guidance import CleanEstimate, Guidance
from interp_refiner.model.sampler.sampler import Sampler
from interp_refiner.model.sampler.spacing import Even, Spacing
from interp_refiner.model.sampler.views import Views


@dataclass(frozen=True)
class Step:
    """One step of a bridge, ``y' = keep y + pull u + fresh s xi`` with ``y = x - zbar`` and ``s = sigma m g``.

    Attributes:
        tau: start of the step, at which the clean estimate is made.
        ahead: W, the weight of the extrapolation ``u = u_i + W (u_i - u_{i-1})``; 0 in the first step.
        keep, pull, fresh: functions of ``tau`` alone, so the step is also valid for frames without noise.
    """

    tau: float
    ahead: float
    keep: float
    pull: float
    fresh: float


def steps_along(taus: Sequence[float], eta: float = 0.0, clock: Callable[[float], float] | None = None) -> list[Step]:
    """The steps of the bridge's reverse process. The state is ``y = a u + b e`` with ``a = 1 - tau``, ``b = tau s``.

    A step from ``tau`` to ``tau'`` with a share ``eta`` of fresh noise is (DDIM: Song et al. 2021, equation 16):

        c  = eta b' sqrt(1 - (a b' / (a' b))^2)
        y' = a' u + sqrt(b'^2 - c^2) (y - a u) / b + c xi

    ``eta = 0`` is the probability-flow ODE, ``eta = 1`` the ancestral sampler; with many steps, both sample from the
    distribution of clean clips. With a clock q, ``u`` is extrapolated from the last two estimates (two-step multistep:
    Lu et al. 2022, algorithm 2) to the middle of the step; in the last step, which leaves no noise, to its end:

        W = ((q + q') / 2 - q) / (q - q_before)        W = (q(0) - q) / (q - q_before)

    Args:
        taus: bridge times, decreasing from 1 to 0.
        eta: from 0 to 1.
        clock: time variable of the extrapolation; None for no extrapolation (first order).
    """
    steps, before = [], None
    for tau, after in pairwise(taus):
        ratio = (1 - tau) * after / ((1 - after) * tau)  # a b' / (a' b); s cancels
        keep = after / tau * math.sqrt(1 - eta**2 * (1 - ratio**2))
        fresh = eta * after * math.sqrt(1 - ratio**2)
        ahead = 0.0
        if clock is not None and before is not None:
            here, there = clock(tau), clock(after)
            ahead = ((there if after == 0 else (here + there) / 2) - here) / (here - clock(before))
        steps.append(Step(tau, ahead, keep, pull=(1 - after) - keep * (1 - tau), fresh=fresh))
        before = tau
    return steps


def bridge(
    clean_estimate: CleanEstimate,
    corrupted: Corrupted,
    steps: Sequence[Step],
    noise: Callable[[str], Tensor],
) -> Float[Tensor, "b c t *space"]:
    """A sample along the bridge from ``tau = 1`` to 0, with one clean estimate per step; given frames are exact.

    The state is kept in float32; the model sees it in the precision of the clip.

    Args:
        clean_estimate: ``z0_hat`` of a corrupted clip.
        corrupted: a clip at ``tau = 1``.
        steps: the result of :func:`steps_along`.
        noise: ``xi`` by the name of its draw, distributed like the corruption's ``eps``.

    Raises:
        BadValue: several steps without noise.
    """
    _check_steps(len(steps), corrupted.sigma)
    zbar, one = corrupted.interpolation.float(), torch.ones_like(corrupted.tau)
    y, before = corrupted.x.float() - zbar, None
    for number, step in enumerate(steps):
        u = clean_estimate(corrupted.at(step.tau * one, zbar + y)) - zbar
        extrapolated = u if before is None else u + step.ahead * (u - before)
        y = step.keep * y + step.pull * extrapolated
        if step.fresh > 0:
            y = y + step.fresh * corrupted.amplitude * noise(f"bridge_{number}")
        before = u
    return corrupted.at(0 * one, zbar + y).x


class Bridge(Sampler):
    """:func:`bridge`: a sample with few clean estimates.

    For a Gaussian residual of standard deviation .3, it keeps .98 to 1.06 of the variance in 8 steps and .88 to 1.02 in
    4, at sigma .2, .4 and .8 and ``eta`` 0 and 1. With ``order=1`` it keeps .51 to .72 and .33 to .51
    (experiments/sampler).

    Args:
        steps: number of clean estimates, N.
        order: 2 extrapolates the last two clean estimates, without further evaluations; 1 does not.
        eta: share of fresh noise, 0 (deterministic given the start) to 1.
        spacing: the bridge times of the steps; None for even spacing.
        guidance, views: see :class:`Sampler`.

    Raises:
        BadValue: no step, another order, a share outside 0..1.
    """

    def __init__(
        self,
        steps: int = 8,
        order: int = 2,
        eta: float = 0.0,
        spacing: Spacing | None = None,
        guidance: Guidance | None = None,
        views: Views | None = None,
    ):
        super().__init__(guidance, views)
        if steps < 1:
            raise BadValue("steps", steps, "a number of steps >= 1")
        if order not in (1, 2):
            raise BadValue("order", order, "1 or 2")
        if not 0 <= eta <= 1:
            raise BadValue("eta", eta, "a share of fresh noise from 0 to 1")
        self.steps, self.order, self.eta, self.spacing = steps, order, eta, spacing or Even()

    @property
    def leaves_start(self) -> bool:
        return self.steps > 1

    def of_steps(self, steps: int) -> "Bridge":
        """The same sampler with another number of steps."""
        return Bridge(steps, self.order, self.eta, self.spacing, self.guidance, self.views)

    def evaluations(self, num_levels: int) -> int:
        return self.steps

    def check(self, corruption: Corruption) -> None:
        """Also refuses several steps without noise."""
        super().check(corruption)
        _check_steps(self.steps, corruption.sigma)

    def along(self, sigma: float) -> list[Step]:
        """The steps for noise of this amplitude."""
        clock = (lambda tau: self.spacing.clock(tau, sigma)) if self.order == 2 else None
        return steps_along(self.spacing(self.steps, sigma), self.eta, clock)

    def __call__(
        self, clean_estimate: CleanEstimate, corrupted: Corrupted, draws: Draws, corruption: Corruption
    ) -> Float[Tensor, "b c t *space"]:
        steps = self.along(corrupted.sigma)
        noise = partial(corruption.fresh, draws, corrupted=corrupted)
        return bridge(self.estimates(clean_estimate, corruption.reflections), corrupted, steps, noise)


def _check_steps(steps: int, sigma: float) -> None:
    if steps > 1 and sigma == 0:
        allowed = "1 with corruption=none: steps need noise (use sampler=one_jump, or corruption=dist)"
        raise BadValue("sampler.steps", steps, allowed)
