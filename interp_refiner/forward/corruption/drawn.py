"""How the draws of a sample are distributed."""

from dataclasses import dataclass

from interp_refiner.core import BadValue
from interp_refiner.forward.corruption.bridge_time import BridgeTime
from interp_refiner.forward.corruption.given import Given


@dataclass(frozen=True)
class Drawn:
    """How level, bridge time and given frames of a sample are drawn.

    Attributes:
        level: the only level to train at; None draws it uniformly from 1..S.
        bridge_time: the distribution of ``tau`` in training; None for ``tau = 1``.
        given: which keyframes are constraints; None for the clip's own given frames.
        seed: the run's seed, used by all draws.

    Raises:
        BadValue: a level below 1.
    """

    level: int | None = None
    bridge_time: BridgeTime | None = None
    given: Given | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.level is not None and self.level < 1:
            raise BadValue("level", self.level, "a level from 1 (finest) to S (sparsest), or null to draw it")
