"""Training: the LightningModule and its optimizers."""

from interp_refiner.training.optimizer import AdamW, OptimizerRecipe, parameter_groups
from interp_refiner.training.refiner import Refiner, check_method

__all__ = ["AdamW", "OptimizerRecipe", "Refiner", "check_method", "parameter_groups"]
