"""Where everything in a picture has gone in another picture."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.forward.interpolator.block_matching import cheapest, displacements, matching_cost
from interp_refiner.forward.interpolator.flow_warp import warp

TINY = 1e-6  # beside variances that are divided by
DAMPING = 0.02  # of Gauss-Newton, relative to the mean square of the gradient: flat windows stay where they are
REACH = 2.0  # positions that Gauss-Newton may go from where it starts


class MotionFields:
    """Dense displacements between two keyframes, by block matching and Gauss-Newton steps.

    Means over ``pooling^2`` positions, the cells, are matched: a cell at x takes the displacement v of least

        D(x, v) + smoothness * variance * |v|

    see :func:`matching_cost`, refined by a parabola. Every position starts with the displacement of its cell and
    descends the squared difference of ``start(p)`` and ``end(p + v)`` over the window around it (Lucas, Kanade 1981).

    Args:
        radius: of the search window, in positions; motion that goes further from keyframe to keyframe is not found.
        pooling: side of a cell in positions; it divides ``radius``.
        smoothness: cost of a displacement by one position, in units of the keyframes' variance.
        window: side of what Gauss-Newton looks at, in positions; odd.
        steps: of Gauss-Newton.

    Raises:
        BadValue: an argument out of range.
    """

    def __init__(self, radius: int = 3, pooling: int = 1, smoothness: float = 0.1, window: int = 3, steps: int = 2):
        for name, value in {"radius": radius, "pooling": pooling, "smoothness": smoothness, "window": window}.items():
            if value <= 0:
                raise BadValue(name, value, "a number > 0")
        if radius % pooling:
            raise BadValue("pooling", pooling, f"a divisor of radius={radius}")
        if window % 2 == 0:
            raise BadValue("window", window, "an odd number of positions")
        if steps < 0:
            raise BadValue("steps", steps, "0 or more")
        self.radius, self.pooling, self.smoothness, self.window, self.steps = radius, pooling, smoothness, window, steps

    @torch.no_grad()
    def __call__(self, start: Float[Tensor, "n c h w"], end: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        """By how many positions (x, y) what is at every position of ``start`` has moved in ``end``."""
        return self.refine(start, end, self.match(start, end))

    def match(self, start: Float[Tensor, "n c h w"], end: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        """The cheapest displacement of every cell."""
        height, width = start.shape[2:]
        pad = (0, -width % self.pooling, 0, -height % self.pooling)
        start, end = (F.avg_pool2d(F.pad(z, pad, mode="replicate"), self.pooling) for z in (start, end))
        radius, variance = self.radius // self.pooling, start.var((2, 3), keepdim=True).mean(1, keepdim=True) + TINY
        length = torch.linalg.vector_norm(displacements(radius, start), dim=0).view(-1, 1, 1)
        cost = matching_cost(start, end, radius, 1) + self.smoothness * self.pooling * variance * length
        vectors = self.pooling * cheapest(cost, radius)
        if self.pooling > 1:
            vectors = F.interpolate(vectors, scale_factor=self.pooling, mode="nearest")
        return vectors[:, :, :height, :width]

    def refine(
        self, start: Float[Tensor, "n c h w"], end: Float[Tensor, "n c h w"], field: Float[Tensor, "n 2 h w"]
    ) -> Float[Tensor, "n 2 h w"]:
        """Gauss-Newton: ``(G + mu) dv = -sum_window g (end(p + v) - start(p))``, g the gradient of ``start``."""
        gradient = torch.stack(spatial_gradient(start), 2)  # [n, c, 2, h, w]
        xx, xy, yy = (
            self.mean((gradient[:, :, i] * gradient[:, :, j]).mean(1, keepdim=True))
            for i, j in ((0, 0), (0, 1), (1, 1))
        )
        damping = DAMPING * (xx + yy).mean((2, 3), keepdim=True) + TINY**2
        xx, yy = xx + damping, yy + damping
        scale = (start != end).flatten(1).any(1).view(-1, 1, 1, 1) / (xx * yy - xy * xy)  # 0 where nothing moves
        first = field
        for _ in range(self.steps):
            error = (warp(end, field) - start).unsqueeze(2)
            x, y = self.mean((gradient * error).mean(1)).split(1, 1)
            step = torch.cat([xy * y - yy * x, xy * x - xx * y], 1) * scale
            field = first + (field + step - first).clamp(-REACH, REACH)
        return field

    def mean(self, values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Over the window around every position."""
        around = F.pad(values, (self.window // 2,) * 4, mode="replicate")
        return F.avg_pool2d(around, self.window, stride=1)


def spatial_gradient(z: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"]]:
    """Central differences along x and y, the edge beyond the edge."""
    wide = F.pad(z, (1, 1, 1, 1), mode="replicate")
    return (wide[:, :, 1:-1, 2:] - wide[:, :, 1:-1, :-2]) / 2, (wide[:, :, 2:, 1:-1] - wide[:, :, :-2, 1:-1]) / 2
