"""Keyframe schedules: how many frames of a clip are keyframes at each level, and which."""

from interp_refiner.forward.schedule.cheapest_segments import CheapestSegments
from interp_refiner.forward.schedule.content import Content, Unseen
from interp_refiner.forward.schedule.counts import explicit_counts, keyframe_counts
from interp_refiner.forward.schedule.dp import DynamicProgramming
from interp_refiner.forward.schedule.fixed import Fixed
from interp_refiner.forward.schedule.learned import Learned
from interp_refiner.forward.schedule.preview import AnchorPreview, ClipPreview, Preview
from interp_refiner.forward.schedule.random import Random
from interp_refiner.forward.schedule.schedule import Request, Schedule
from interp_refiner.forward.schedule.segment_path import log_likelihood
from interp_refiner.forward.schedule.selector import Selector
from interp_refiner.forward.schedule.uniform import Uniform

__all__ = [
    "AnchorPreview",
    "CheapestSegments",
    "ClipPreview",
    "Content",
    "DynamicProgramming",
    "Fixed",
    "Learned",
    "Preview",
    "Random",
    "Request",
    "Schedule",
    "Selector",
    "Uniform",
    "Unseen",
    "explicit_counts",
    "keyframe_counts",
    "log_likelihood",
]
