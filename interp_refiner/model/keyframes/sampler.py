"""Samplers of keyframes: follow the flow from noise at ``u = 1`` to 0 (docs/method.md, Keyframes from text)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import at_least, non_negative, per_sample, positive
from interp_refiner.model.keyframes.flow import shifted

VelocityAt = Callable[[Tensor, Tensor], Tensor]
"""``v(x, u)`` of states ``[b, c, k, *space]`` at times ``[b]``; 0 where a keyframe is given."""


def euler(
    velocity: VelocityAt, x: Float[Tensor, "b c k *space"], u: Float[Tensor, " b"], after: Float[Tensor, " b"]
) -> Float[Tensor, "b c k *space"]:
    """``x + (u' - u) v(x, u)``: one evaluation, first order."""
    return x + per_sample(after - u, x) * velocity(x, u)


def heun(
    velocity: VelocityAt, x: Float[Tensor, "b c k *space"], u: Float[Tensor, " b"], after: Float[Tensor, " b"]
) -> Float[Tensor, "b c k *space"]:
    """Euler's step, then the mean of the velocities at both of its ends (Karras et al. 2022, algorithm 1)."""
    size, before = per_sample(after - u, x), velocity(x, u)
    return x + size * (before + velocity(x + size * before, after)) / 2


class KeyframeSampler(ABC):
    """Follows the flow in steps.

    Attributes:
        of_step: number of velocity evaluations per step.

    Args:
        steps: number of steps.
        guidance: w of classifier-free guidance (Ho and Salimans 2022), ``v = v_without + w (v_with - v_without)``; 1 is
            no guidance and half the cost.
        shift: shift of the steps' times, see :class:`FlowTime`; above 1, steps are smaller at high noise.
        rounds: number of times that the keyframes of a clip are sampled. Every round after the first keeps one more
            keyframe, in the order of time, as given and samples the others again, so that all show the same objects.

    Raises:
        BadValue: no step, no round, a guidance below 0, or a shift that is not above 0.
    """

    of_step: ClassVar[int]

    def __init__(self, steps: int = 20, guidance: float = 2.0, shift: float = 4.0, rounds: int = 1):
        at_least(1, steps=steps, rounds=rounds)
        non_negative("guidance", guidance, "1 is no guidance")
        positive("shift", shift)
        self.steps, self.guidance, self.shift, self.rounds = steps, guidance, shift, rounds

    @property
    def evaluations(self) -> int:
        """The number of velocity evaluations per sample and round; the last step is an Euler step."""
        return 1 + (self.steps - 1) * self.of_step

    def __repr__(self) -> str:
        settings = f"steps={self.steps}, guidance={self.guidance:g}, shift={self.shift:g}, rounds={self.rounds}"
        return f"{type(self).__name__.lower()}({settings})"

    def __call__(
        self, velocity: VelocityAt, x: Float[Tensor, "b c k *space"], start: Float[Tensor, " b"]
    ) -> Float[Tensor, "b c k *space"]:
        """The state at ``u = 0``, from the state at ``u = start``; ``start`` may differ from sample to sample."""
        shares = shifted(torch.linspace(1, 0, self.steps + 1, device=x.device), self.shift)
        for number, (share, after) in enumerate(pairwise(shares), 1):
            step = euler if number == self.steps else self.step
            x = step(velocity, x, share * start, after * start)
        return x

    @staticmethod
    @abstractmethod
    def step(velocity: VelocityAt, x: Tensor, u: Tensor, after: Tensor) -> Tensor:
        """One step of the flow. The last step, to ``u = 0``, is always an Euler step."""


@final
class Euler(KeyframeSampler):
    """One evaluation per step, two with guidance."""

    of_step = 1
    step = staticmethod(euler)


@final
class Heun(KeyframeSampler):
    """Two evaluations per step, four with guidance; second order."""

    of_step = 2
    step = staticmethod(heun)


@final
@dataclass(frozen=True)
class OwnSampler:
    """A generator's own sampler, with some of its settings replaced.

    Attributes:
        steps, guidance, shift, rounds: see :class:`KeyframeSampler`; None keeps the generator's own.
    """

    steps: int | None = None
    guidance: float | None = None
    shift: float | None = None
    rounds: int | None = None

    @property
    def replaced(self) -> dict[str, Any]:
        """The settings that replace the generator's own."""
        return {name: value for name, value in asdict(self).items() if value is not None}
