"""Training: the LightningModules and their optimizers."""

from interp_refiner.training.interpolator_fit import InterpolatorFit
from interp_refiner.training.muon import Joined, Muon, is_block_matrix, orthogonalised
from interp_refiner.training.optimizer import AdamW, OptimizerRecipe, parameter_groups, steps
from interp_refiner.training.refiner import Refiner, check_method
from interp_refiner.training.selector_fit import SelectorFit

__all__ = [
    "AdamW",
    "InterpolatorFit",
    "Joined",
    "Muon",
    "OptimizerRecipe",
    "Refiner",
    "SelectorFit",
    "check_method",
    "is_block_matrix",
    "orthogonalised",
    "parameter_groups",
    "steps",
]
