"""The default objective: what has to be added to the interpolation."""

from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import Corrupted
from interp_refiner.model.objective.objective import Objective


class Correction(Objective):
    """Output ``z0 - zbar``, added to the *clean* interpolation; zero output reproduces the interpolation."""

    zero_start = True

    def clean_estimate(
        self, output: Float[Tensor, "b c t *space"], corrupted: Corrupted
    ) -> Float[Tensor, "b c t *space"]:
        return corrupted.interpolation + output

    def target(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        return corrupted.clean - corrupted.interpolation
