"""How often a keyframe is replaced by its proposal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interp_refiner.core import BadValue


@dataclass(frozen=True)
class Probability:
    """p at an optimizer step: a straight line from ``start`` to ``end``, then constant (Bengio et al. 2015).

    A function of the step alone, so a resumed run continues with the same p.

    Args:
        start: p at step 0.
        end: p from step ``warmup_steps`` on.
        warmup_steps: length of the ramp; 0 for a constant p of ``end``.
        evaluation: p outside training: 0 shows true keyframes, 1 shows every available proposal.

    Raises:
        BadValue: a probability outside 0..1, or a negative number of steps.
    """

    start: float = 0.0
    end: float = 0.5
    warmup_steps: int = 0
    evaluation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("start", "end", "evaluation"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadValue(name, getattr(self, name), "a probability from 0 to 1")
        if self.warmup_steps < 0:
            raise BadValue("warmup_steps", self.warmup_steps, "a number of steps >= 0")

    @staticmethod
    def idle(settings: Mapping[str, Any]) -> dict[str, str]:
        """The settings without effect, see :class:`SaysIdle`."""
        return {} if settings.get("warmup_steps") else {"start": "with warmup_steps=0 the probability is `end` at once"}

    def __call__(self, step: int | None) -> float:
        """p after ``step`` optimizer steps; None outside training."""
        if step is None:
            return self.evaluation
        progress = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        return self.start + (self.end - self.start) * progress
