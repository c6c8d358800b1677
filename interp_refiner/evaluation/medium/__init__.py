"""What clips are to people and to metrics: videos, or paths on a map."""

from interp_refiner.evaluation.medium.maze import Maze, MazeTables, paths_on_maps
from interp_refiner.evaluation.medium.medium import Figures, Medium, Table, Tables
from interp_refiner.evaluation.medium.video import Video, VideoTables

__all__ = [
    "Figures",
    "Maze",
    "MazeTables",
    "Medium",
    "Table",
    "Tables",
    "Video",
    "VideoTables",
    "paths_on_maps",
]
