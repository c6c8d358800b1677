"""Keyframe schedules: how many frames of a clip are keyframes at each level, and which."""

from interp_refiner.schedule.counts import explicit_counts, keyframe_counts
from interp_refiner.schedule.dp import DynamicProgramming
from interp_refiner.schedule.fixed import Fixed
from interp_refiner.schedule.random import Random
from interp_refiner.schedule.schedule import Schedule
from interp_refiner.schedule.uniform import Uniform

__all__ = ["DynamicProgramming", "Fixed", "Random", "Schedule", "Uniform", "explicit_counts", "keyframe_counts"]
