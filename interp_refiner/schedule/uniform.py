"""Evenly spaced keyframes."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp_refiner.core import BadValue, Draws
from interp_refiner.schedule.counts import Law
from interp_refiner.schedule.schedule import Schedule
from interp_refiner.schedule.splitting import frame_mask, rank_by_splitting


class Uniform(Schedule):
    """Evenly spaced keyframes at the sparsest level; each finer level splits the largest gap at its midpoint.

    Samples with given frames start from those (and the endpoints) and split from there on.

    Args:
        jitter: moves each split at random, 0 not at all, 1 anywhere inside its gap; the sparsest level stays.

    See :class:`Schedule` for the others.
    """

    def __init__(
        self,
        k_min: int = 4,
        num_levels: int = 4,
        law: Law = "geometric",
        counts: list[int] | None = None,
        endpoints: bool = True,
        jitter: float = 0.0,
    ):
        super().__init__(k_min, num_levels, law, counts, endpoints)
        if not 0 <= jitter <= 1:
            raise BadValue("jitter", jitter, "0 to 1")
        self.jitter = jitter

    def rank(
        self,
        forced: Bool[Tensor, "b t"],
        given: Bool[Tensor, "b t"],
        counts: list[int],
        draws: Draws,
        cost: Float[Tensor, "b t t"] | None,
    ) -> Int[Tensor, "b t"]:
        num_frames = given.shape[1]
        even = frame_mask(evenly_spaced(num_frames, counts[-1]), given)
        base = forced | (even & ~given.any(1, keepdim=True))
        noise = draws.uniform("schedule/jitter", num_frames + 2, given.device) if self.jitter else None
        return rank_by_splitting(forced, base, self.jitter, noise)


def evenly_spaced(num_frames: int, count: int) -> list[int]:
    """``round(linspace(0, T - 1, K))``, half to even."""
    return [round(i * (num_frames - 1) / (count - 1)) for i in range(count)]
