"""From a corrupted clip at tau = 1 to a video: plain functions over a callable that returns the clean estimate."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted, Draws, per_frame
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.sampler.guidance import CleanEstimate, Guidance, NoGuidance


def one_jump(clean_estimate: CleanEstimate, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
    """The clean estimate at tau = 1: the conditional mean, best in squared error. Given frames are exact."""
    return corrupted.keep_given(clean_estimate(corrupted))


def bridge(
    clean_estimate: CleanEstimate,
    corrupted: Corrupted,
    draws: Draws,
    steps: int,
    eta: float = 0.0,
    temperature: float = 1.0,
    noise: Callable[[Draws, str, Tensor], Tensor] = Draws.normal,
) -> Float[Tensor, "b c t *space"]:
    """A sample along the bridge from tau = 1 to 0, given frames exact.

    Each step estimates the clean clip, finds the noise residual that the state implies, and moves to the next tau:

        r  = (x - (1 - tau) x0_hat) / tau - zbar
        r' = sqrt(1 - eta^2) r + eta sigma m xi,     0 where sigma m = 0
        x' = (1 - tau') x0_hat + tau' (zbar + r')

    Args:
        clean_estimate: ``z0_hat`` of a corrupted clip.
        corrupted: a clip at tau = 1.
        draws: randomness for ``xi``.
        steps: number of clean estimates, N.
        eta: share of fresh noise, 0 (deterministic given the start) to 1.
        temperature: of all noise. Few steps lose variance, which more than 1 makes good; less trades realism for error.
        noise: the law of ``xi``, that of the corruption's ``eps``.

    Raises:
        BadValue: several steps without noise.
    """
    _check_steps(steps, corrupted.sigma)
    zbar = corrupted.interpolation
    scale = per_frame(corrupted.sigma * corrupted.noise_profile, zbar).to(zbar.dtype)
    scale, one = temperature * scale, torch.ones_like(corrupted.tau)
    state = corrupted if temperature == 1 else corrupted.at(one, torch.lerp(zbar, corrupted.x, temperature))
    for step in range(steps):
        tau, after = 1 - step / steps, 1 - (step + 1) / steps
        estimate = clean_estimate(state)
        residual = (state.x - (1 - tau) * estimate) / tau - zbar
        if eta > 0:
            residual = (1 - eta**2) ** 0.5 * residual + eta * scale * noise(draws, f"bridge_{step}", zbar)
        residual = torch.where(scale > 0, residual, 0.0)
        state = state.at(after * one, (1 - after) * estimate + after * (zbar + residual))
    return state.x


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
    """

    descends: ClassVar[bool] = False

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


class Bridge(Sampler):
    """:func:`bridge` in ``steps`` steps with a share ``eta`` of fresh noise, all noise times ``temperature``."""

    def __init__(self, steps: int = 4, eta: float = 0.0, temperature: float = 1.0, guidance: Guidance | None = None):
        super().__init__(guidance)
        if steps < 1:
            raise BadValue("steps", steps, "a number of steps >= 1")
        if not 0 <= eta <= 1:
            raise BadValue("eta", eta, "a share of fresh noise from 0 to 1")
        if not 0 < temperature < math.inf:
            raise BadValue("temperature", temperature, "a finite number > 0; 1 is the noise of training")
        self.steps, self.eta, self.temperature = steps, eta, temperature

    @property
    def leaves_start(self) -> bool:
        return self.steps > 1

    def of_steps(self, steps: int) -> "Bridge":
        """The same sampler with another number of steps."""
        return Bridge(steps, self.eta, self.temperature, self.guidance)

    def evaluations(self, num_levels: int) -> int:
        return self.steps

    def check(self, corruption: Corruption) -> None:
        """Refuses several steps without noise."""
        _check_steps(self.steps, corruption.sigma)

    def __call__(
        self, clean_estimate: CleanEstimate, corrupted: Corrupted, draws: Draws, corruption: Corruption
    ) -> Float[Tensor, "b c t *space"]:
        estimate, noise = self.guidance(clean_estimate), corruption.noise.draw
        return bridge(estimate, corrupted, draws, self.steps, self.eta, self.temperature, noise)


class Hierarchical(Sampler):
    """:func:`hierarchical`."""

    descends = True

    def evaluations(self, num_levels: int) -> int:
        return num_levels

    def __call__(
        self, clean_estimate: CleanEstimate, corrupted: Corrupted, draws: Draws, corruption: Corruption
    ) -> Float[Tensor, "b c t *space"]:
        return hierarchical(self.guidance(clean_estimate), corrupted, corruption)


def _check_steps(steps: int, sigma: float) -> None:
    if steps > 1 and sigma == 0:
        allowed = "1 on corruption=none: without noise no step adds anything (use sampler=one_jump, or corruption=dist)"
        raise BadValue("sampler.steps", steps, allowed)
