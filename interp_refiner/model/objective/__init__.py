"""Objectives: the meaning of the network's output, and the training loss."""

from interp_refiner.model.objective.adjacent import Adjacent
from interp_refiner.model.objective.clean import Clean
from interp_refiner.model.objective.consistency import Consistency, Matching
from interp_refiner.model.objective.correction import Correction
from interp_refiner.model.objective.energy_score import EnergyScore, PatchScore
from interp_refiner.model.objective.mixture import Gate, Mixture
from interp_refiner.model.objective.objective import Loss, Objective
from interp_refiner.model.objective.preconditioned import Preconditioned
from interp_refiner.model.objective.robust import Robust
from interp_refiner.model.objective.velocity import Velocity

__all__ = [
    "Adjacent",
    "Clean",
    "Consistency",
    "Correction",
    "EnergyScore",
    "Gate",
    "Loss",
    "Matching",
    "Mixture",
    "Objective",
    "PatchScore",
    "Preconditioned",
    "Robust",
    "Velocity",
]
