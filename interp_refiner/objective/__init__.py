"""What the network's output means, and the loss it is trained with."""

from interp_refiner.objective.adjacent import Adjacent
from interp_refiner.objective.clean import Clean
from interp_refiner.objective.correction import Correction
from interp_refiner.objective.energy_score import EnergyScore
from interp_refiner.objective.mixture import Gate, Mixture
from interp_refiner.objective.objective import Loss, Objective
from interp_refiner.objective.preconditioned import Preconditioned
from interp_refiner.objective.velocity import Velocity

__all__ = [
    "Adjacent",
    "Clean",
    "Correction",
    "EnergyScore",
    "Gate",
    "Loss",
    "Mixture",
    "Objective",
    "Preconditioned",
    "Velocity",
]
