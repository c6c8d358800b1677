"""Training: LightningModules, callbacks, checkpoints, strategies and records."""

from interp_refiner.training.backbone_module import BackboneModule
from interp_refiner.training.distill import Distill
from interp_refiner.training.interpolator_fit import InterpolatorFit
from interp_refiner.training.keyframe_generator import KeyframeGenerator
from interp_refiner.training.perceptual import ImageDistance, Perceptual, Windows
from interp_refiner.training.refiner import Refiner, check_distilled, check_method, sampler_notes
from interp_refiner.training.renoised_keyframes import RenoisedKeyframes
from interp_refiner.training.selector_fit import SelectorFit
from interp_refiner.training.st_lpips import ShiftTolerantLPIPS
from interp_refiner.training.tangent import Difference, Discrete, Forward, Tangent

__all__ = [
    "BackboneModule",
    "Difference",
    "Discrete",
    "Distill",
    "Forward",
    "ImageDistance",
    "InterpolatorFit",
    "KeyframeGenerator",
    "Perceptual",
    "Refiner",
    "RenoisedKeyframes",
    "SelectorFit",
    "ShiftTolerantLPIPS",
    "Tangent",
    "Windows",
    "check_distilled",
    "check_method",
    "sampler_notes",
]
