"""Paths through mazes: do they hit walls, and are they better than the interpolation they started from?"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.evaluation.measures.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap
from interp_refiner.evaluation.measures.clip_table import ClipTable, check_methods, comparisons
from interp_refiner.training.missing_frame import error_ratio, missing_frame_mse

TOUCH = 1e-4  # of an edge: less than this inside a wall counts as grazing it
SKIN = 1e-6  # of the map: so near to its border a wall is not yet there; float32 rounds coordinates by 6e-8


def edge_collisions(walls: Bool[Tensor, "b g g"], path: Float[Tensor, "b 2 t"]) -> Bool[Tensor, "b e"]:
    """Whether each edge of a path, the segment between successive points, runs through a wall or leaves the map.

    Exact, not sampled: an edge ``p + u (q - p)``, u in 0..1, is inside row i of cells for an interval of u, inside
    column j for another, and so inside cell (i, j) where the two overlap. Touching a wall's border or corner is no
    collision, nor is running along it: walls begin ``SKIN`` behind their borders, so rounding decides nothing. An edge
    with a coordinate that is no finite number is a collision.

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
    """For every strip ``[k/size, (k+1)/size]``, less ``SKIN`` on both sides, the first and last u in 0..1 at which
    ``start + u step`` is inside it.

    The interval is empty (last before first) for strips that are never entered.
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


class MazeScores(ClipTable):
    """Collisions, lengths and errors of several methods' paths, by level.

    Figures, with means over paths i:

        mse/m              = mean_i missing-point error e_i(m)
        mse_ratio/m/n      = mse/m / mse/n                             (1 where both are 0)
        better/m/n         = share with e_i(m) < (1 - tolerance) e_i(n)
        worse/m/n          = share with e_i(m) > (1 + tolerance) e_i(n)
        unchanged/m/n      = the rest
        collision_rate/m   = share of paths with an edge in a wall
        edge_collisions/m  = mean share of a path's edges in a wall
        length_ratio/m     = mean_i length_i(m) / mean_i length_i(truth)
        endpoint_error/m   = mean_i distance of start and end from the true ones

    ``collision_rate/truth`` and ``edge_collisions/truth`` are there for control.

    Args:
        methods: the paths that every update brings.
        baselines: those among them that the others are compared with.
        tolerance: relative difference of errors up to which a path counts as unchanged.
        bootstrap: of the intervals.

    Raises:
        BadValue: a negative tolerance, or a baseline that is no method.
    """

    key_names = ("level",)
    groupings = (("level",),)

    def __init__(
        self,
        methods: list[str],
        baselines: list[str],
        tolerance: float = 0.01,
        bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    ):
        names = [f"{q}/{m}" for m in methods for q in ("mse", "endpoint_error")]
        names += [f"{q}/{m}" for m in ("truth", *methods) for q in ("collision_rate", "edge_collisions", "length")]
        super().__init__(names, bootstrap)
        if tolerance < 0:
            raise BadValue("tolerance", tolerance, "0 or more")
        self.methods, self.pairs, self.tolerance = list(methods), comparisons(methods, baselines), tolerance

    def update(
        self,
        estimates: dict[str, Float[Tensor, "b 2 t"]],
        clean: Float[Tensor, "b 2 t"],
        walls: Bool[Tensor, "b g g"],
        known: Bool[Tensor, "b t"],
        level: Int[Tensor, " b"],
        sample: Int[Tensor, " b"],
    ) -> None:
        """Adds one batch, without waiting for the device; paths and walls as for :func:`edge_collisions`.

        Raises:
            BadValue: other estimates than ``methods``.
        """
        check_methods(estimates, self.methods)
        values = {}
        for method, path in {"truth": clean, **estimates}.items():
            hits = edge_collisions(walls, path)
            values[f"collision_rate/{method}"] = hits.any(1).float()
            values[f"edge_collisions/{method}"] = hits.float().mean(1)
            values[f"length/{method}"] = path_length(path)
        for method, path in estimates.items():
            values[f"mse/{method}"] = missing_frame_mse(path, clean, ~known)
            values[f"endpoint_error/{method}"] = endpoint_error(path, clean)
        self.add_rows(sample, ~known.all(1), {"level": level}, values)

    def clip_values(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        shares: dict[str, Tensor] = {}
        for m, n in self.pairs:
            error, reference = means[f"mse/{m}"], means[f"mse/{n}"]
            better, worse = error < (1 - self.tolerance) * reference, error > (1 + self.tolerance) * reference
            shares |= {f"better/{m}/{n}": better, f"worse/{m}/{n}": worse, f"unchanged/{m}/{n}": ~(better | worse)}
        return means | shares

    def summary(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        ratios = {f"mse_ratio/{m}/{n}": error_ratio(means[f"mse/{m}"], means[f"mse/{n}"]) for m, n in self.pairs}
        lengths = {f"length_ratio/{m}": means[f"length/{m}"] / means["length/truth"] for m in self.methods}
        return {name: mean for name, mean in means.items() if not name.startswith("length/")} | ratios | lengths
