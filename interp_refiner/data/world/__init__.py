"""The embedded worlds: random scenes of moving shapes, their rendering, and a reader of their captions."""

from interp_refiner.data.world.bouncing import Bouncing
from interp_refiner.data.world.gliding import Gliding
from interp_refiner.data.world.render import render
from interp_refiner.data.world.scene import BRIGHTNESS, DIRECTIONS, SHAPES, Scene
from interp_refiner.data.world.scorer import CaptionScorer
from interp_refiner.data.world.world import MAX_OBJECTS, World

__all__ = [
    "BRIGHTNESS",
    "DIRECTIONS",
    "MAX_OBJECTS",
    "SHAPES",
    "Bouncing",
    "CaptionScorer",
    "Gliding",
    "Scene",
    "World",
    "render",
]
