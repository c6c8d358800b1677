"""Keyframes drawn at random."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp_refiner.core import Draws
from interp_refiner.schedule.schedule import Schedule, ranks


class Random(Schedule):
    """Keyframes drawn at random beside the forced ones; each level keeps a uniformly drawn subset of the next finer."""

    def rank(
        self,
        forced: Bool[Tensor, "b t"],
        given: Bool[Tensor, "b t"],
        counts: list[int],
        draws: Draws,
        cost: Float[Tensor, "b t t"] | None,
    ) -> Int[Tensor, "b t"]:
        order = draws.uniform("schedule/order", given.shape[1], given.device)
        return ranks(order.masked_fill(forced, -1.0))
