"""Optimizer recipes, which build the optimizer and schedule of a LightningModule."""

from interp_refiner.training.optimizer.muon import Joined, Muon, is_block_matrix, orthogonalised
from interp_refiner.training.optimizer.optimizer import AdamW, OptimizerRecipe, parameter_groups, steps

__all__ = [
    "AdamW",
    "Joined",
    "Muon",
    "OptimizerRecipe",
    "is_block_matrix",
    "orthogonalised",
    "parameter_groups",
    "steps",
]
