"""Motion-compensated interpolation by bilateral block matching, without training."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.profiler import record_function

from interp_refiner.core import BadValue, Neighbours, per_frame, positive
from interp_refiner.forward.interpolator.block_matching import cheapest, displacements, matching_cost, read_at, regret
from interp_refiner.forward.interpolator.flow_warp import warp
from interp_refiner.forward.interpolator.interpolator import PART, Interpolation, Interpolator
from interp_refiner.forward.interpolator.linear import lerp_frames
from interp_refiner.forward.interpolator.motion_fields import local_mean
from interp_refiner.forward.interpolator.segments import rows_inside, segments

TINY = 1e-6  # added to variances and squared differences before a division


class MotionCompensated(Interpolator):
    """Moves blocks along the straight line on which the two bracketing keyframes agree best.

    Let a frame be at ``a`` of its gap. For its block at q, the displacement v in the search window is chosen for which
    matching ``z_l(q - a v)`` with ``z_r(q + (1 - a) v)`` has the least :func:`regret` (bilateral matching at the target
    frame, Choi et al. 2007; the cost is :func:`matching_cost` plus ``smoothness * variance * |v|``). With the vectors
    ``v_k`` of the blocks around a position p and their :func:`windows` ``w_k`` (overlapped block motion compensation,
    Orchard and Sullivan 1994),

        zbar(p) = z(p) + g sum_k w_k ((1 - a) (L_k - z_l(p)) + a (R_k - z_r(p)))        z = (1 - a) z_l + a z_r
        L_k = z_l(p - a v_k)        R_k = z_r(p + (1 - a) v_k)        g = max(0, 1 - (d / d0)^2)

    where d and d0 are local means of ``sum_k w_k (L_k - R_k)^2`` and ``(z_l - z_r)^2``. Where motion compensation does
    not make the keyframes more similar (``d >= d0``), the result is linear interpolation. The confidence is
    ``1 / (1 + d / variance)``.

    Args:
        radius: of the search window, in positions; motion that goes further within a gap is not found.
        block: side of a block in positions; it is matched together with the 8 blocks around it.
        pooling: means over ``pooling^2`` positions are matched, which is faster; divides radius and block.
        smoothness: cost of a displacement by one position, in units of the keyframes' variance.

    Raises:
        BadValue: an argument out of range; on use, latents that are not video.
    """

    segment_local: ClassVar[bool] = True

    def __init__(self, radius: int = 3, block: int = 2, pooling: int = 1, smoothness: float = 0.03):
        super().__init__()
        for name, value in {"radius": radius, "block": block, "pooling": pooling, "smoothness": smoothness}.items():
            positive(name, value)
        if radius % pooling or block % pooling:
            raise BadValue("pooling", pooling, f"a divisor of radius={radius} and block={block}")
        self.radius, self.block, self.pooling, self.smoothness = radius, block, pooling, smoothness

    def fill(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        if values.ndim != 5:
            needed = "video [b, c, t, h, w]: motion_compensated matches positions in space"
            raise BadValue("latents", tuple(values.shape), needed)
        b, _, t = values.shape[:3]
        gaps, frame = segments(near), rows_inside(near)
        keyframes, row = gaps.keyframes(values), gaps.row_of_frame.index_select(0, frame)
        alpha = gaps.alpha.flatten().index_select(0, frame).to(values.dtype).view(-1, 1, 1, 1)
        left, right = (side.index_select(0, row) for side in keyframes)
        with record_function(f"{PART}match"):
            vectors = self.motion(*keyframes, row, alpha)
        with record_function(f"{PART}compensate"):
            change, difference = compensate(left, right, vectors, alpha, self.block)
        moved, unmoved = (around(d, self.block) for d in (difference, (left - right).square()))
        change = change * (1 - (moved / (unmoved + TINY)).square()).clamp(min=0)
        confidence = 1 / (1 + moved / variance(*keyframes).index_select(0, row))

        change = change.new_zeros(b * t, *change.shape[1:]).index_copy(0, frame, change)
        confidence = confidence.new_zeros(b * t, *values.shape[3:]).index_copy(0, frame, confidence.squeeze(1))
        change = change.unflatten(0, (b, t)).transpose(1, 2) * per_frame(gaps.inside, values)
        confidence = confidence.unflatten(0, (b, t)) * gaps.inside.view(b, t, 1, 1)
        return Interpolation(lerp_frames(values, near) + change, confidence)

    @torch.no_grad()
    def motion(
        self,
        left: Float[Tensor, "n c h w"],
        right: Float[Tensor, "n c h w"],
        segment: Int[Tensor, " f"],
        alpha: Float[Tensor, "f 1 1 1"],
    ) -> Float[Tensor, "f 2 rows cols"]:
        """The displacement (x, y) of every block of every frame, from the left to the right keyframe of its segment."""
        height, width = left.shape[2:]
        pad = (0, -width % self.block, 0, -height % self.block)
        left, right = (F.avg_pool2d(F.pad(z, pad, mode="replicate"), self.pooling) for z in (left, right))
        radius, block = self.radius // self.pooling, self.block // self.pooling
        displacement = displacements(radius, left)
        step, length = displacement / block, torch.linalg.vector_norm(displacement, dim=0).view(-1, 1, 1)
        cost = matching_cost(left, right, radius, block)
        cost = cost + self.smoothness * self.pooling * variance(left, right) * length
        at_target = read_at(regret(cost, step).index_select(0, segment), -alpha.squeeze(3) * step)
        return self.pooling * cheapest(at_target, radius)


def variance(left: Float[Tensor, "n c h w"], right: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 1 1"]:
    """Variance over the positions of both frames, averaged over channels."""
    both = torch.cat([left, right], 2)
    return (both - both.mean((2, 3), keepdim=True)).square().mean((1, 2, 3), keepdim=True) + TINY


def compensate(
    left: Float[Tensor, "f c h w"],
    right: Float[Tensor, "f c h w"],
    vectors: Float[Tensor, "f 2 rows cols"],
    alpha: Float[Tensor, "f 1 1 1"],
    block: int,
) -> tuple[Float[Tensor, "f c h w"], Float[Tensor, "f c h w"]]:
    """The two sums over k in :class:`MotionCompensated`: the change of z before the factor g, and the difference.

    The first is exactly 0 where all vectors are 0. Keyframes are sampled bilinearly, with replicated edges.
    """
    change = difference = torch.zeros_like(left)
    for row, weight_y in windows(left.shape[2], block, left):
        for col, weight_x in windows(left.shape[3], block, left):
            v = vectors.index_select(2, row).index_select(3, col)
            weight = weight_y.unsqueeze(1) * weight_x
            from_left, from_right = warp(left, -alpha * v), warp(right, (1 - alpha) * v)
            blend = torch.lerp(from_left - left, from_right - right, alpha)
            change = torch.addcmul(change, weight * (v != 0).any(1, keepdim=True), blend)
            difference = torch.addcmul(difference, weight, (from_left - from_right).square())
    return change, difference


def windows(size: int, block: int, like: Tensor) -> list[tuple[Int[Tensor, " size"], Float[Tensor, " size"]]]:
    """The three nearest blocks of every position of an axis (before, own, after), and their weights.

    The weights are a quadratic B-spline over block centres; they sum to 1.
    """
    centre = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) / block - 0.5
    nearest, last = centre.round(), -(-size // block) - 1
    u = centre - nearest
    weights = ((0.5 - u) ** 2 / 2, 0.75 - u**2, (0.5 + u) ** 2 / 2)
    return [((nearest + k).clamp(0, last).long(), weight) for k, weight in zip((-1, 0, 1), weights, strict=True)]


def around(error: Float[Tensor, "f c h w"], block: int) -> Float[Tensor, "f 1 h w"]:
    """Mean over channels and over about two blocks around every position: two box filters of about one block."""
    side = block // 2 * 2 + 1
    error = error.mean(1, keepdim=True)
    for _ in range(2):
        error = local_mean(error, side)
    return error
