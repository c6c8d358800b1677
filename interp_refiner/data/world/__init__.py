"""The embedded worlds: random scenes of moving shapes, and their rendering."""

from interp_refiner.data.world.bouncing import Bouncing
from interp_refiner.data.world.gliding import Gliding
from interp_refiner.data.world.render import render
from interp_refiner.data.world.scene import BRIGHTNESS, DIRECTIONS, SHAPES, Scene
from interp_refiner.data.world.world import MAX_OBJECTS, World

__all__ = [
    "BRIGHTNESS",
    "DIRECTIONS",
    "MAX_OBJECTS",
    "SHAPES",
    "Bouncing",
    "Gliding",
    "Scene",
    "World",
    "render",
]
