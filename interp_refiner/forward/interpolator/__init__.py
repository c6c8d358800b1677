"""Interpolators: fill the frames between keyframes."""

from interp_refiner.forward.interpolator.block_fields import BlockFields
from interp_refiner.forward.interpolator.flow_warp import FlowWarp
from interp_refiner.forward.interpolator.in_pixels import InPixels
from interp_refiner.forward.interpolator.interpolator import (
    PART,
    Interpolation,
    Interpolator,
    PixelCodec,
    no_confidence,
)
from interp_refiner.forward.interpolator.laws_of_motion import (
    Backward,
    Forward,
    LawOfMotion,
    LinearBlend,
    Nearest,
    Quadratic,
)
from interp_refiner.forward.interpolator.leading import Leading
from interp_refiner.forward.interpolator.learned import Learned
from interp_refiner.forward.interpolator.linear import Linear
from interp_refiner.forward.interpolator.motion_compensated import MotionCompensated
from interp_refiner.forward.interpolator.motion_fields import Fields, MotionFields
from interp_refiner.forward.interpolator.motion_hypotheses import MotionHypotheses
from interp_refiner.forward.interpolator.remembered import Remembered
from interp_refiner.forward.interpolator.sinkhorn import Sinkhorn
from interp_refiner.forward.interpolator.slerp import Slerp
from interp_refiner.forward.interpolator.spline import Spline
from interp_refiner.forward.interpolator.straightened import Straightened

__all__ = [
    "PART",
    "Backward",
    "BlockFields",
    "Fields",
    "FlowWarp",
    "Forward",
    "InPixels",
    "Interpolation",
    "Interpolator",
    "LawOfMotion",
    "Leading",
    "Learned",
    "Linear",
    "LinearBlend",
    "MotionCompensated",
    "MotionFields",
    "MotionHypotheses",
    "Nearest",
    "PixelCodec",
    "Quadratic",
    "Remembered",
    "Sinkhorn",
    "Slerp",
    "Spline",
    "Straightened",
    "no_confidence",
]
