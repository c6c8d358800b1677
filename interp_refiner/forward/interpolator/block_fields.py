"""Motion fields from block matching: every position takes the best displacement of the nine blocks around it."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, positive
from interp_refiner.forward.interpolator.block_matching import cheapest, displacements, matching_cost, regret
from interp_refiner.forward.interpolator.flow_warp import warp
from interp_refiner.forward.interpolator.motion_compensated import variance
from interp_refiner.forward.interpolator.motion_fields import Fields


class BlockFields(Fields):
    """Dense displacements between two keyframes, an alternative to :class:`MotionFields` with different errors.

    A block takes the displacement of least :func:`regret`, so it has to be a good match in both keyframes. Of the
    displacements of its own block and the eight blocks around it, a position p takes the v for which
    ``|end(p + v) - start(p)|^2``, averaged over 3 x 3 positions, is smallest. So outlines can be finer than blocks.

    Args:
        radius: of the search window, in positions; motion that goes further from keyframe to keyframe is not found.
        block: side of a block in positions; it is matched together with the 8 blocks around it.
        pooling: means over ``pooling^2`` positions are matched; it divides radius and block.
        smoothness: cost of a displacement by one position, in units of the keyframes' variance.
        tolerance: see :class:`Fields`.

    Raises:
        BadValue: an argument out of range.
    """

    def __init__(
        self,
        radius: int = 3,
        block: int = 2,
        pooling: int = 1,
        smoothness: float = 0.03,
        tolerance: float | None = None,
    ):
        super().__init__(tolerance)
        for name, value in {"radius": radius, "block": block, "pooling": pooling, "smoothness": smoothness}.items():
            positive(name, value)
        if radius % pooling or block % pooling:
            raise BadValue("pooling", pooling, f"a divisor of radius={radius} and block={block}")
        self.radius, self.block, self.pooling, self.smoothness = radius, block, pooling, smoothness

    @torch.no_grad()
    def flow(self, start: Float[Tensor, "n c h w"], end: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 h w"]:
        height, width = start.shape[2:]
        pad = (0, -width % self.block, 0, -height % self.block)
        start, end = (F.pad(z, pad, mode="replicate") for z in (start, end))
        return self.fitting(start, end, self.of_blocks(start, end))[:, :, :height, :width]

    def of_blocks(
        self, start: Float[Tensor, "n c h w"], end: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n 2 rows cols"]:
        """The displacement of every block."""
        start, end = (F.avg_pool2d(z, self.pooling) for z in (start, end))
        radius, block = self.radius // self.pooling, self.block // self.pooling
        step = displacements(radius, start) / block
        length = torch.linalg.vector_norm(displacements(radius, start), dim=0).view(-1, 1, 1)
        cost = matching_cost(start, end, radius, block)
        cost = cost + self.smoothness * self.pooling * variance(start, end) * length
        return self.pooling * cheapest(regret(cost, step), radius)

    def fitting(
        self, start: Float[Tensor, "n c h w"], end: Float[Tensor, "n c h w"], vectors: Float[Tensor, "n 2 rows cols"]
    ) -> Float[Tensor, "n 2 h w"]:
        """For every position, the best vector of the nine blocks around it; on ties, that of its own block."""
        rows, cols = vectors.shape[2:]
        around = F.pad(vectors, (1, 1, 1, 1), mode="replicate")
        shifts = sorted(((y, x) for y in range(3) for x in range(3)), key=lambda shift: shift != (1, 1))
        field, least = torch.zeros_like(start[:, :2]), torch.full_like(start[:, :1], torch.inf)
        for y, x in shifts:
            candidate = around[:, :, y : y + rows, x : x + cols]
            candidate = candidate.repeat_interleave(self.block, 2).repeat_interleave(self.block, 3)
            misfit = (warp(end, candidate) - start).square().mean(1, keepdim=True)
            misfit = F.avg_pool2d(F.pad(misfit, (1,) * 4, mode="replicate"), 3, stride=1)
            field, least = torch.where(misfit < least, candidate, field), torch.minimum(misfit, least)
        return field
