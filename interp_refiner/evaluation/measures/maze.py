"""Metrics of paths through mazes: collisions with walls, errors and lengths."""

from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import BadValue, Measure
from interp_refiner.data.medium import walls_of
from interp_refiner.evaluation.measures.clip_table import ClipMetric
from interp_refiner.evaluation.measures.metric import Batch
from interp_refiner.training.missing_frame import missing_frame_mse

TOUCH = 1e-4  # share of an edge: if less of it is inside a wall, it only touches the wall
SKIN = 1e-6  # of the map: this part of a wall at its border does not count; float32 rounds coordinates by 6e-8


def edge_collisions(walls: Bool[Tensor, "b g g"], path: Float[Tensor, "b 2 t"]) -> Bool[Tensor, "b e"]:
    """Whether each edge of a path, the segment between successive points, runs through a wall or leaves the map.

    Exact, not sampled: an edge ``p + u (q - p)``, u in 0..1, is inside row i of cells for one interval of u and inside
    column j for another; it is inside cell (i, j) where both overlap. Touching a wall's border or corner, or running
    along it, is not a collision. Walls begin ``SKIN`` inside their borders, so rounding errors do not matter. An edge
    with a coordinate that is not finite is a collision.

    Args:
        walls: the map; cell (i, j) covers ``[i/g, (i+1)/g] x [j/g, (j+1)/g]``.
        path: coordinates in 0..1; ``path[:, 0]`` runs along i (rows), ``path[:, 1]`` along j (columns).
    """
    start, step = path[:, :, :-1].double(), path.double().diff(dim=2)
    enter_row, leave_row = _stay(start[:, 0], step[:, 0], walls.shape[1])
    enter_column, leave_column = _stay(start[:, 1], step[:, 1], walls.shape[2])
    enter = torch.maximum(enter_row.unsqueeze(3), enter_column.unsqueeze(2))
    leave = torch.minimum(leave_row.unsqueeze(3), leave_column.unsqueeze(2))
    through_wall = ((leave - enter > TOUCH) & walls.unsqueeze(1)).flatten(2).any(2)
    off_map = ~((path >= -SKIN) & (path <= 1 + SKIN)).all(1)  # NaN is nowhere on it
    return through_wall | off_map[:, :-1] | off_map[:, 1:]


def _stay(
    start: Float[Tensor, "b e"], step: Float[Tensor, "b e"], size: int
) -> tuple[Float[Tensor, "b e g"], Float[Tensor, "b e g"]]:
    """The first and last u in 0..1 at which ``start + u step`` is inside each strip ``[k/size, (k+1)/size]``.

    Strips are narrower by ``SKIN`` on both sides. For strips that are never entered, last comes before first.
    """
    border = torch.arange(size + 1, device=start.device, dtype=start.dtype) / size
    lower, upper = border[:-1] + SKIN, border[1:] - SKIN
    start, step = start.unsqueeze(2), step.unsqueeze(2)
    still = step.abs() < 1e-12
    divisor = torch.where(still, 1.0, step)
    u, v = (lower - start) / divisor, (upper - start) / divisor
    first, last = torch.minimum(u, v), torch.maximum(u, v)
    inside = (lower < start) & (start < upper)
    first = torch.where(still, torch.where(inside, 0.0, 1.0), first)
    last = torch.where(still, torch.where(inside, 1.0, 0.0), last)
    return first.clamp(min=0), last.clamp(max=1)


def path_length(path: Float[Tensor, "b 2 t"]) -> Float[Tensor, " b"]:
    """Sum of the lengths of a path's edges."""
    return path.diff(dim=2).norm(dim=1).sum(1)


def endpoint_error(path: Float[Tensor, "b 2 t"], clean: Float[Tensor, "b 2 t"]) -> Float[Tensor, " b"]:
    """Mean distance of a path's start and end from the true ones."""
    error = (path - clean).norm(dim=1)
    return (error[:, 0] + error[:, -1]) / 2


def of_paths(name: str, heading: str, **settings: Any) -> Measure:
    """A measure of paths."""
    return Measure(name, heading, domain="paths", section="paths", **settings)


@final
class MazePaths(ClipMetric):
    """Errors, collisions and lengths of paths. With means over paths i:

        path_mse        = mean_i missing-point error e_i in the unit square
        edges_in_walls  = mean_i share of a path's edges in a wall
        paths_in_walls  = share of paths with an edge in a wall
        length          = mean_i length_i / mean_i length_i(truth)
        endpoint_error  = mean_i distance of start and end from the true ones

    A path is better or worse than another one if the errors differ by more than 1%, else they count as equal.
    """

    tolerance = 0.01
    measures = (
        of_paths("path_mse", "path MSE", digits=4, compared="ratio", brief=False),
        of_paths("edges_in_walls", "edges in walls", percent=True),
        of_paths("paths_in_walls", "paths in walls", percent=True),
        of_paths("length", "length / truth", better="one", digits=2, neutral=1.0),
        of_paths("endpoint_error", "endpoint error", digits=4, brief=False),
    )

    @property
    def values(self) -> tuple[str, ...]:
        return (*super().values, "true length")

    def rows(self, estimate: Float[Tensor, "b 2 t"], batch: Batch) -> dict[str, Tensor]:
        if batch.clip is None:
            raise BadValue("clip", None, "clips with the walls of their mazes")
        hits = edge_collisions(walls_of(batch.clip), estimate)
        return {
            "path_mse": missing_frame_mse(estimate, batch.clean, ~batch.known),
            "edges_in_walls": hits.float().mean(1),
            "paths_in_walls": hits.any(1).float(),
            "length": path_length(estimate),
            "endpoint_error": endpoint_error(estimate, batch.clean),
            "true length": path_length(batch.clean),
        }

    def figures(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        ratio = {"length": means["length"] / means["true length"]}
        return {name: mean for name, mean in means.items() if name != "true length"} | ratio
