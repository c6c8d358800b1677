"""Types that every other folder speaks in: clips, keyframe plans, corrupted clips, derived randomness."""

from interp_refiner.core.clip import Clip
from interp_refiner.core.corrupted import Corrupted
from interp_refiner.core.errors import BadValue, MissingExtra, choice, suggestion
from interp_refiner.core.neighbours import Neighbours, neighbours
from interp_refiner.core.plan import KeyframePlan
from interp_refiner.core.rng import Draws, derived_seed
from interp_refiner.core.shapes import frame_mean, masked_mean, per_frame, per_sample, take_frames

__all__ = [
    "BadValue",
    "Clip",
    "Corrupted",
    "Draws",
    "KeyframePlan",
    "MissingExtra",
    "Neighbours",
    "choice",
    "derived_seed",
    "frame_mean",
    "masked_mean",
    "neighbours",
    "per_frame",
    "per_sample",
    "suggestion",
    "take_frames",
]
