"""Interpolators: fill the frames between keyframes."""

from interp_refiner.interpolator.interpolator import Interpolation, Interpolator
from interp_refiner.interpolator.linear import Linear
from interp_refiner.interpolator.slerp import Slerp
from interp_refiner.interpolator.spline import Spline

__all__ = ["Interpolation", "Interpolator", "Linear", "Slerp", "Spline"]
