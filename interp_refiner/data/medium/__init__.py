"""Media: what kind of content clips are (videos, or paths on maps), and how to show it."""

from interp_refiner.data.medium.maze import Maze, paths_on_maps, walls_of
from interp_refiner.data.medium.medium import Medium, Versions
from interp_refiner.data.medium.video import Video

__all__ = ["Maze", "Medium", "Versions", "Video", "paths_on_maps", "walls_of"]
