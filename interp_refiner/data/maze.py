"""Mazes: random walls on a grid and the shortest path from a start to a goal, written once as shards of paths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from itertools import count as count_from
from typing import Any, final

import networkx as nx
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import BadValue, Draws, MissingExtra, maps
from interp_refiner.data.generated import Generated
from interp_refiner.data.shards import DatasetMetadata, Sample

Cell = tuple[int, int]

STATISTICS_PATHS = 512  # the coordinates' mean and deviation are estimated from so many training paths


@dataclass(frozen=True)
class Maze:
    """A maze and the path through it.

    Attributes:
        walls: the map; the border is wall.
        cells: the path: free cells from start to goal, each a neighbour of the one before it.
    """

    walls: Bool[np.ndarray, "g g"]
    cells: list[Cell]

    def maps(self) -> Float[Tensor, "4 g g"]:
        """Walls, signed distance, start and goal: ``Clip.context``, see :mod:`interp_refiner.core.maps`."""
        from scipy.ndimage import distance_transform_edt

        drawn = np.zeros((maps.COUNT, *self.walls.shape), np.float32)
        drawn[maps.WALLS] = self.walls
        drawn[maps.DISTANCE] = distance_transform_edt(~self.walls) - distance_transform_edt(self.walls)
        drawn[maps.START][self.cells[0]] = drawn[maps.GOAL][self.cells[-1]] = 1
        return torch.from_numpy(drawn)

    def path(self, num_points: int) -> Float[Tensor, "2 t"]:
        """Points at equal arc length from start to goal: rows and columns in 0..1, cells at their centres."""
        centres = (np.array(self.cells) + 0.5) / len(self.walls)
        # every step is one cell long, so the arc length up to a cell is its number
        at = np.linspace(0, len(centres) - 1, num_points)
        return torch.from_numpy(np.stack([np.interp(at, np.arange(len(centres)), c) for c in centres.T])).float()


@final
class Mazes(Generated):
    """Shortest paths through random mazes, with maps.

    A maze has a border and random walls, with a wall probability drawn per maze. Start and goal are random, connected,
    and at least ``min_distance`` cells apart in L1.

    Args:
        num_train, num_val: mazes in each split; the splits use different random numbers.
        num_points: points of a path, T.
        size: cells along a side, including the border.
        wall_probability: (least, most) probability that an inner cell is wall; each maze draws its own, uniformly.
        min_distance: from start to goal in cells, L1.
        seed: of the whole set.

    Raises:
        BadValue: a count below 1, fewer than 2 points, probabilities outside 0..0.5 or in the wrong order, or a
            distance that does not fit into the maze.
        MissingExtra: scipy is not installed.
    """

    name = "maze"
    version = 1  # raise it whenever mazes, paths or maps change
    unit = "maze"

    def __init__(
        self,
        num_train: int = 20000,
        num_val: int = 256,
        num_points: int = 64,
        size: int = 21,
        wall_probability: Sequence[float] = (0.15, 0.3),
        min_distance: int = 10,
        seed: int = 0,
    ):
        settings = {"num_train": num_train, "num_val": num_val, "num_points": num_points, "size": size}
        for name, smallest in {"num_train": 1, "num_val": 1, "num_points": 2, "size": 5}.items():
            if settings[name] < smallest:
                raise BadValue(name, settings[name], f"at least {smallest}")
        least, most = wall_probability if len(wall_probability) == 2 else (1.0, 0.0)
        if not 0 <= least <= most <= 0.5:  # with more walls few cells are connected
            allowed = "two numbers, 0 <= least <= most <= 0.5"
            raise BadValue("wall_probability", list(wall_probability), allowed)
        if not 1 <= min_distance <= (largest := min(size, 2 * (size - 3))):  # corner to corner of the inner cells
            raise BadValue("min_distance", min_distance, f"1 to {largest} cells in a maze of size {size}")
        if find_spec("scipy") is None:
            raise MissingExtra("data=maze", "scipy", "maze")
        self.probability = least, most
        self.num_points, self.size, self.min_distance = num_points, size, min_distance
        self.latent_shape = (2, num_points)
        super().__init__(
            {**settings, "wall_probability": list(self.probability), "min_distance": min_distance, "seed": seed}
        )

    def maze(self, split: str, number: int) -> tuple[str, Maze]:
        """Key and maze, a function of (seed, split, number); drawn again until a goal is connected and far enough."""
        key = f"{split}-{number:06d}"
        draws = Draws(self.seed, split, [key])
        drawn = (self._drawn(draws.uniform(f"maze_{n}", 3 + self.size**2)[0].double().numpy()) for n in count_from())
        return key, next(maze for maze in drawn if maze is not None)

    def _drawn(self, u: Float[np.ndarray, " n"]) -> Maze | None:
        """The maze made from n uniform numbers; None if no goal can be reached from the start."""
        from scipy.ndimage import label

        low, high = self.probability
        walls = u[3:].reshape(self.size, self.size) < low + (high - low) * u[0]
        walls[[0, -1]] = walls[:, [0, -1]] = True
        free = np.argwhere(~walls)
        if len(free) == 0:
            return None
        start = free[int(u[1] * len(free))]
        area = label(~walls)[0]
        far = np.abs(free - start).sum(1) >= self.min_distance
        goals = free[far & (area[tuple(free.T)] == area[tuple(start)])]
        if len(goals) == 0:
            return None
        return Maze(walls, shortest_path(walls, tuple(start.tolist()), tuple(goals[int(u[2] * len(goals))].tolist())))

    def samples(self, split: str, count: int) -> Iterator[Sample]:
        for number in range(count):
            key, maze = self.maze(split, number)
            yield Sample(key, maze.path(self.num_points), context=maze.maps())

    @cached_property
    def statistics(self) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]]:
        """Mean and standard deviation of rows and columns over the first training paths."""
        numbers = range(min(self.counts["train"], STATISTICS_PATHS))
        points = torch.cat([self.maze("train", number)[1].path(self.num_points) for number in numbers], 1)
        return points.mean(1), points.std(1)

    def declare(self, made_by: dict[str, Any]) -> DatasetMetadata:
        mean, std = self.statistics
        return DatasetMetadata(
            latent_shape=self.latent_shape,
            layout="ct",
            latent_dtype="float32",
            context_shape=(maps.COUNT, self.size, self.size),
            latents_mean=mean.tolist(),
            latents_std=std.tolist(),
            normalised=False,
            made_by=made_by,
        )


def shortest_path(walls: Bool[np.ndarray, "g g"], start: Cell, goal: Cell) -> list[Cell]:
    """A shortest path in steps to one of the four neighbours: A* (Hart, Nilsson and Raphael 1968), L1 as heuristic.

    Of the many paths of equal length it is the one whose cells are nearest, on average, to the straight line from start
    to goal. So the map determines the path; the order in which the search visits cells does not matter.
    networkx raises ``NetworkXNoPath`` if there is no path.
    """
    size, way = len(walls), np.subtract(goal, start)
    rows, columns = np.indices(walls.shape)
    off_line = np.abs(way[0] * (columns - start[1]) - way[1] * (rows - start[0])) / np.hypot(*way)  # cells, below 1.5 g
    cost = 1 + off_line / size**3  # less than 1.5 in all for g^2 cells; a detour is 2 steps or more
    return nx.astar_path(
        _grid(size),
        start,
        goal,
        heuristic=lambda a, b: abs(a[0] - b[0]) + abs(a[1] - b[1]),
        weight=lambda _, cell, __: None if walls[cell] else cost[cell],  # None: no such edge
    )


@cache
def _grid(size: int) -> nx.Graph:
    return nx.grid_graph((size, size))
