"""Interpolators: fill the frames between keyframes."""

from interp_refiner.interpolator.flow_warp import FlowWarp
from interp_refiner.interpolator.in_pixels import InPixels, PixelCodec, use_codec
from interp_refiner.interpolator.interpolator import PART, Interpolation, Interpolator
from interp_refiner.interpolator.learned import Learned
from interp_refiner.interpolator.linear import Linear
from interp_refiner.interpolator.motion_compensated import MotionCompensated
from interp_refiner.interpolator.sinkhorn import Sinkhorn
from interp_refiner.interpolator.slerp import Slerp
from interp_refiner.interpolator.spline import Spline
from interp_refiner.interpolator.straightened import Straightened

__all__ = [
    "PART",
    "FlowWarp",
    "InPixels",
    "Interpolation",
    "Interpolator",
    "Learned",
    "Linear",
    "MotionCompensated",
    "PixelCodec",
    "Sinkhorn",
    "Slerp",
    "Spline",
    "Straightened",
    "use_codec",
]
