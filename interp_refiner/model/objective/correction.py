"""The default objective: a correction added to the interpolation."""

from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import Corrupted
from interp_refiner.model.objective.mixture import Mixture


class Correction(Mixture):
    """Output ``z0 - zbar``, added to the interpolation without noise; a zero output gives the interpolation."""

    def clean_estimate(
        self, output: Float[Tensor, "b o t *space"], corrupted: Corrupted
    ) -> Float[Tensor, "b c t *space"]:
        correction, chosen = self.chosen(output, corrupted)
        return corrupted.interpolation + chosen + correction

    def target(self, corrupted: Corrupted) -> Float[Tensor, "b o t *space"]:
        return self.undecided(corrupted.clean - corrupted.interpolation, corrupted)
