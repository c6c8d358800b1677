"""Interpolators: fill the frames between keyframes."""

from interp_refiner.interpolator.flow_warp import FlowWarp
from interp_refiner.interpolator.in_pixels import InPixels, PixelCodec, use_codec
from interp_refiner.interpolator.interpolator import PART, Interpolation, Interpolator
from interp_refiner.interpolator.laws_of_motion import Backward, Forward, LawOfMotion, LinearBlend, Nearest, Quadratic
from interp_refiner.interpolator.learned import Learned
from interp_refiner.interpolator.linear import Linear
from interp_refiner.interpolator.motion_compensated import MotionCompensated
from interp_refiner.interpolator.motion_fields import MotionFields
from interp_refiner.interpolator.motion_hypotheses import MotionHypotheses
from interp_refiner.interpolator.sinkhorn import Sinkhorn
from interp_refiner.interpolator.slerp import Slerp
from interp_refiner.interpolator.spline import Spline
from interp_refiner.interpolator.straightened import Straightened

__all__ = [
    "PART",
    "Backward",
    "FlowWarp",
    "Forward",
    "InPixels",
    "Interpolation",
    "Interpolator",
    "LawOfMotion",
    "Learned",
    "Linear",
    "LinearBlend",
    "MotionCompensated",
    "MotionFields",
    "MotionHypotheses",
    "Nearest",
    "PixelCodec",
    "Quadratic",
    "Sinkhorn",
    "Slerp",
    "Spline",
    "Straightened",
    "use_codec",
]
