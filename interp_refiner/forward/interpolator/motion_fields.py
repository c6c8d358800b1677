"""Dense motion between neighbouring keyframes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from interp_refiner.core import BadValue, positive
from interp_refiner.forward.interpolator.block_matching import cheapest, displacements, matching_cost
from interp_refiner.forward.interpolator.flow_warp import warp

TINY = 1e-6  # added to variances before a division
DAMPING = 0.02  # of Gauss-Newton, relative to the mean square of the gradient: vectors of flat windows hardly change
REACH = 2.0  # largest distance of Gauss-Newton from its start, in positions
COVERING = 2.0  # weight = exp(COVERING * speed in positions per frame), so faster positions cover slower ones
FASTEST = 2.0  # positions per frame; a higher speed does not add weight


@dataclass(frozen=True)
class Motion:
    """The motion of every position of a keyframe to another keyframe.

    Attributes:
        flow: displacements (x, y) in positions.
        weight: weight of every position in a splat. Moving positions cover standing ones, and positions that fail the
            forward-backward check have a small weight.
    """

    flow: Float[Tensor, "n 2 h w"]
    weight: Float[Tensor, "n 1 h w"]

    def rows(self, index: Int[Tensor, " f"]) -> "Motion":
        return Motion(self.flow.index_select(0, index), self.weight.index_select(0, index))


class Fields(ABC):
    """Computes the motion between two keyframes, in both directions.

    With the flow f from one keyframe to the other and b back (forward-backward check, Sundaram et al. 2010),

        weight(p) = covering(f / frames)(p) exp(-|f(p) + b(p + f(p))|^2 / (2 tolerance^2))

    Args:
        tolerance: the error of the forward-backward check, in positions, at which the weight falls by ``exp(-1/2)``;
            None for no check.

    Raises:
        BadValue: a tolerance that is not positive.
    """

    def __init__(self, tolerance: float | None = None):
        if tolerance is not None:
            positive("tolerance", tolerance, "or null for no check")
        self.tolerance = tolerance

    @abstractmethod
    def flow(self, start: Float[Tensor, "n c h w"], end: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        """The displacement (x, y) of every position from ``start`` to ``end``, in positions."""

    @torch.no_grad()
    def __call__(
        self, earlier: Float[Tensor, "n c h w"], later: Float[Tensor, "n c h w"], frames: Float[Tensor, "n 1 1 1"]
    ) -> tuple[Motion, Motion]:
        """The motion from the earlier keyframe to the later one, ``frames`` frames later, and back."""
        flow = self.flow(torch.cat([earlier, later]), torch.cat([later, earlier]))
        weight = covering(flow / frames.repeat(2, 1, 1, 1))
        if self.tolerance is not None:
            opposite = torch.cat(flow.chunk(2)[::-1])
            error = (flow + warp(opposite, flow)).square().sum(1, keepdim=True)
            weight = weight * (error / (-2 * self.tolerance**2)).exp()
        forward, backward = zip(flow.chunk(2), weight.chunk(2), strict=True)
        return Motion(*forward), Motion(*backward)


class MotionFields(Fields):
    """Dense motion, by block matching and Gauss-Newton steps.

    Cells of ``pooling^2`` positions are matched by their means: a cell at x takes the displacement v that minimises

        D(x, v) + smoothness * variance * |v|

    with D of :func:`matching_cost`, refined by a parabola. From the displacement of its cell, every position then
    minimises ``|end(p + v) - start(p)|^2`` over the window around it (Lucas and Kanade 1981).

    Args:
        radius: of the search window, in positions; motion that goes further from keyframe to keyframe is not found.
        pooling: side of a cell in positions; it divides ``radius``.
        smoothness: cost of a displacement by one position, in units of the keyframes' variance.
        window: side of the window of Gauss-Newton, in positions; odd.
        steps: number of Gauss-Newton steps.
        tolerance: see :class:`Fields`.

    Raises:
        BadValue: an argument out of range.
    """

    def __init__(
        self,
        radius: int = 3,
        pooling: int = 1,
        smoothness: float = 0.1,
        window: int = 3,
        steps: int = 2,
        tolerance: float | None = 1.0,
    ):
        super().__init__(tolerance)
        for name, value in {"radius": radius, "pooling": pooling, "smoothness": smoothness, "window": window}.items():
            positive(name, value)
        if radius % pooling:
            raise BadValue("pooling", pooling, f"a divisor of radius={radius}")
        if window % 2 == 0:
            raise BadValue("window", window, "an odd number of positions")
        if steps < 0:
            raise BadValue("steps", steps, "0 or more")
        self.radius, self.pooling, self.smoothness = radius, pooling, smoothness
        self.window, self.steps = window, steps

    @torch.no_grad()
    def flow(self, start: Float[Tensor, "n c h w"], end: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        return self.refine(start, end, self.match(start, end))

    def match(self, start: Float[Tensor, "n c h w"], end: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        """The cheapest displacement of every position's cell."""
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
        """Gauss-Newton steps ``dv``: with g the gradient of ``start`` at p, ``G = mean(g g^T)`` and damping mu,

            (G + mu) dv = -mean(g (end(p + v) - start(p)))

        with means over the window and channels. After every step v is averaged over 3 x 3 positions, because
        neighbouring vectors would otherwise drift apart.
        """
        gradient = torch.stack(spatial_gradient(start), 2)  # [n, c, 2, h, w]
        xx, xy, yy = (
            local_mean((gradient[:, :, i] * gradient[:, :, j]).mean(1, keepdim=True), self.window)
            for i, j in ((0, 0), (0, 1), (1, 1))
        )
        damping = DAMPING * (xx + yy).mean((2, 3), keepdim=True) + TINY**2
        xx, yy = xx + damping, yy + damping
        scale = (start != end).flatten(1).any(1).view(-1, 1, 1, 1) / (xx * yy - xy * xy)  # 0 where nothing moves
        start_field = field
        for _ in range(self.steps):
            error = (warp(end, field) - start).unsqueeze(2)
            x, y = local_mean((gradient * error).mean(1), self.window).split(1, 1)
            step = torch.cat([xy * y - yy * x, xy * x - xx * y], 1) * scale
            field = local_mean(start_field + (field + step - start_field).clamp(-REACH, REACH), 3)
        return field


def local_mean(values: Float[Tensor, "n c h w"], side: int, edge: str = "replicate") -> Float[Tensor, "n c h w"]:
    """Mean over the ``side`` x ``side`` positions around every position; ``edge`` as in ``torch.nn.functional.pad``."""
    return F.avg_pool2d(F.pad(values, (side // 2,) * 4, mode=edge), side, stride=1)


def covering(velocity: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Splat weights ``exp(COVERING min(|velocity - median|, FASTEST))``: moving positions cover standing ones.

    The median is over every third position in x and y.
    """
    ordered = velocity[..., ::3, ::3].flatten(2).sort(2).values  # on CUDA, `median` has no deterministic kernel
    median = ordered[:, :, (ordered.shape[2] - 1) // 2, None, None]
    x, y = (velocity - median).split(1, 1)
    return (COVERING * (x * x + y * y).sqrt().clamp(max=FASTEST)).exp()


def spatial_gradient(z: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"]]:
    """Central differences along x and y, edges replicated."""
    wide = F.pad(z, (1, 1, 1, 1), mode="replicate")
    return (wide[:, :, 1:-1, 2:] - wide[:, :, 1:-1, :-2]) / 2, (wide[:, :, 2:, 1:-1] - wide[:, :, :-2, 1:-1]) / 2
