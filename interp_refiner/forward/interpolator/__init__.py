"""Interpolators: fill the frames between keyframes."""

from interp_refiner.forward.interpolator.flow_warp import FlowWarp
from interp_refiner.forward.interpolator.in_pixels import InPixels, PixelCodec, use_codec
from interp_refiner.forward.interpolator.interpolator import PART, Interpolation, Interpolator
from interp_refiner.forward.interpolator.learned import Learned
from interp_refiner.forward.interpolator.linear import Linear
from interp_refiner.forward.interpolator.motion_compensated import MotionCompensated
from interp_refiner.forward.interpolator.sinkhorn import Sinkhorn
from interp_refiner.forward.interpolator.slerp import Slerp
from interp_refiner.forward.interpolator.spline import Spline
from interp_refiner.forward.interpolator.straightened import Straightened

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
