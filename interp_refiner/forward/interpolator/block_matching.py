"""Block matching between two frames, read at any frame between them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

TINY = 1e-12  # smallest curvature of a parabola; without curvature it has no minimum


def displacements(radius: int, like: Tensor) -> Float[Tensor, "2 v"]:
    """All ``v = (2 radius + 1)^2`` integer displacements (x, y) of a search window, row by row; 0 is in the middle."""
    axis = torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)
    return torch.cartesian_prod(axis, axis).T.flip(0)


def matching_cost(
    left: Float[Tensor, "n c h w"], right: Float[Tensor, "n c h w"], radius: int, block: int
) -> Float[Tensor, "n v rows cols"]:
    """``D(x, v)``: mean of ``(left(p) - right(p + v))^2`` over channels and over all p in the 3 x 3 blocks around x.

    The edges of ``right`` are replicated; ``block`` divides height and width.
    """
    channels, height, width = left.shape[1:]
    shifted = F.pad(right, (radius,) * 4, mode="replicate").unfold(2, height, 1).unfold(3, width, 1)
    cost = []
    for dy in range(2 * radius + 1):  # one row of the window and one channel at a time, which fits a cache
        squares = left.new_zeros(())
        for channel in range(channels):
            difference = left[:, channel, None] - shifted[:, channel, dy]
            squares = torch.addcmul(squares, difference, difference)
        cost.append(F.avg_pool2d(squares, block))
    around = F.pad(torch.cat(cost, 1) / channels, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(around, 3, stride=1)


def regret(cost: Float[Tensor, "n v rows cols"], step: Float[Tensor, "2 v"]) -> Float[Tensor, "n v rows cols"]:
    """How much more a match costs than the best match of each of its two blocks, summed over the two:

        G(x, v) = (D(x, v) - min_u D(x, u)) + (D(x, v) - min_u D(x + v - u, u))

    It is 0 where each block is the other's best match. D alone prefers matches of flat background to those of objects
    that pass in front of it.

    Args:
        cost: ``D``.
        step: ``v`` in blocks.
    """
    best_of_left = cost.amin(1, keepdim=True)
    best_of_right = read_at(cost, -step).amin(1, keepdim=True)
    return 2 * cost - best_of_left - read_at(best_of_right.expand_as(cost), step)


def read_at(cost: Float[Tensor, "n v rows cols"], step: Float[Tensor, "*n 2 v"]) -> Float[Tensor, "n v rows cols"]:
    """``cost(x + step_v, v)`` at the nearest block, with replicated edges."""
    rows, cols = cost.shape[2:]
    x = torch.arange(cols, device=cost.device) + step[..., 0, :, None]
    y = torch.arange(rows, device=cost.device) + step[..., 1, :, None]
    x, y = x.round().clamp(0, cols - 1).long(), y.round().clamp(0, rows - 1).long()
    index = (y.unsqueeze(-1) * cols + x.unsqueeze(-2)).flatten(-2)
    return cost.flatten(2).gather(2, index.expand(cost.shape[0], -1, -1)).view_as(cost)


def cheapest(cost: Float[Tensor, "n v rows cols"], radius: int) -> Float[Tensor, "n 2 rows cols"]:
    """The displacement (x, y) of least cost, refined along each axis by the parabola through three costs.

    A displacement of (0, 0) stays exact, and displacements at the border of the window are not refined along that axis.
    """
    side, middle = 2 * radius + 1, cost.shape[1] // 2
    index = cost.argmin(1, keepdim=True)
    least = cost.gather(1, index)
    vector = []
    for whole, stride in ((index % side, 1), (index // side, side)):
        refinable = (whole > 0) & (whole < side - 1) & (index != middle)
        before = cost.gather(1, (index - stride).clamp(min=0))
        after = cost.gather(1, (index + stride).clamp(max=side * side - 1))
        offset = (before - after) / (2 * (before - 2 * least + after)).clamp(min=TINY)
        vector.append(whole - radius + torch.where(refinable, offset, 0.0))
    return torch.cat(vector, 1)
