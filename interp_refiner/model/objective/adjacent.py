"""An objective that predicts the next finer level, kept for comparison."""

from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import Corrupted
from interp_refiner.model.objective.objective import Objective


class Adjacent(Objective):
    """Output ``x_{s-1} - x_s``, the next finer level minus this one, both rendered from the same draws.

    The estimate ``x_s + output`` is the clean clip only at level 1, because ``x_0 = z0``. From a sparser level,
    sampling goes down level by level (``sampler=hierarchical``). An output of zero leaves the input unchanged.
    """

    zero_start = True
    estimates_finer = True

    def clean_estimate(
        self, output: Float[Tensor, "b c t *space"], corrupted: Corrupted
    ) -> Float[Tensor, "b c t *space"]:
        return corrupted.x + output

    def target(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        return self.reference(corrupted) - corrupted.x

    def reference(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        if corrupted.finer is None:
            raise ValueError("corrupted.finer is None: expected a result of Corruption.with_finer")
        return corrupted.finer

    def unrefined(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        return corrupted.x
