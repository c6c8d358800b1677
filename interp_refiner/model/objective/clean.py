"""The clean clip itself as output."""

from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import Corrupted
from interp_refiner.model.objective.objective import Objective


class Clean(Objective):
    """Output ``z0``."""

    def clean_estimate(
        self, output: Float[Tensor, "b c t *space"], corrupted: Corrupted
    ) -> Float[Tensor, "b c t *space"]:
        return output

    def target(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        return corrupted.clean
