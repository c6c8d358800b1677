"""Training: LightningModules, callbacks, checkpoints, strategies and records."""

from interp_refiner.training.backbone_module import BackboneModule
from interp_refiner.training.interpolator_fit import InterpolatorFit
from interp_refiner.training.keyframe_generator import KeyframeGenerator
from interp_refiner.training.refiner import Refiner, check_method
from interp_refiner.training.renoised_keyframes import RenoisedKeyframes
from interp_refiner.training.selector_fit import SelectorFit

__all__ = [
    "BackboneModule",
    "InterpolatorFit",
    "KeyframeGenerator",
    "Refiner",
    "RenoisedKeyframes",
    "SelectorFit",
    "check_method",
]
