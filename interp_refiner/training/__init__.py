"""Training: the LightningModules and what happens around them."""

from interp_refiner.training.interpolator_fit import InterpolatorFit
from interp_refiner.training.refiner import Refiner, check_method
from interp_refiner.training.selector_fit import SelectorFit

__all__ = [
    "InterpolatorFit",
    "Refiner",
    "SelectorFit",
    "check_method",
]
