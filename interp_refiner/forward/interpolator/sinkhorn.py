"""Displacement interpolation: optimal transport between the token grids of two keyframes."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.profiler import record_function

from interp_refiner.core import BadValue, Neighbours, non_negative, per_frame, positive
from interp_refiner.forward.interpolator.interpolator import PART, Interpolation, Interpolator
from interp_refiner.forward.interpolator.linear import lerp_frames
from interp_refiner.forward.interpolator.segments import segments
from interp_refiner.forward.interpolator.transport import transport_plan

TINY = 1e-4  # lower bound of deviations, lengths and masses (of the order of 1) before a division


class Sinkhorn(Interpolator):
    """Moves patches along an entropic optimal transport plan between the two bracketing keyframes.

    Tokens ``z_i`` and ``z'_j`` are patches of the latents. With the plan ``P`` of :func:`transport_plan` for the scores
    ``<f_i, f_j> - c(|p_i - p_j|)`` (``f`` features of unit length, ``p`` positions in tokens), the interpolation at
    position q and time a is

        D zbar(q) = sum_ij P_ij b(q - p_ij) ((1 - a) z_i + a z'_j) + (1 - a) (u_q + w0) z_q + a (u'_q + w0) z'_q
        p_ij = (1 - a) p_i + a p_j

    where ``b`` is the bilinear kernel. ``u`` and ``u'`` are the masses of left and right tokens that have no partner
    and do not move. ``w0`` is the weight of linear interpolation, and ``D`` is the right side with every z set to 1.

    The cost of moving by d tokens is ``c(d) = w d^2 / (1 + w d^2 / limit)``. It is quadratic for small d, so still
    pictures stay still, and at most ``limit``, so large displacements can be matched.

    The confidence is the matched share of ``D`` divided by ``1 + d``, where d is the mean squared difference between
    the tokens that arrive from the left and from the right. It is near 1 for equal keyframes and near 0 for unrelated
    ones.

    Args:
        patch: side of a token in latent positions; if it does not divide height or width, the edge is repeated.
        epsilon: temperature of the plan.
        distance_weight: w, approximately the cost of moving by one token.
        distance_limit: ``limit``, the largest cost of a displacement; ``inf`` for a quadratic cost.
        dustbin: score above which a match is better than none.
        prior_weight: ``w0``.
        iterations: number of Sinkhorn iterations.

    Raises:
        BadValue: an argument out of range; on use, latents that are not video.
    """

    segment_local: ClassVar[bool] = True

    def __init__(
        self,
        patch: int = 4,
        epsilon: float = 0.03,
        distance_weight: float = 0.1,
        distance_limit: float = 0.25,
        dustbin: float = 0.4,
        prior_weight: float = 0.05,
        iterations: int = 30,
    ):
        super().__init__()
        sizes = {"patch": patch, "epsilon": epsilon, "prior_weight": prior_weight, "iterations": iterations}
        for name, value in {**sizes, "distance_limit": distance_limit}.items():
            positive(name, value)
        self.patch, self.epsilon = patch, epsilon
        self.distance_weight = non_negative("distance_weight", distance_weight, "a weight")
        self.distance_limit = distance_limit
        self.dustbin, self.prior_weight, self.iterations = dustbin, prior_weight, iterations

    def fill(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        if values.ndim != 5:
            raise BadValue("latents", tuple(values.shape), "video [b, c, t, h, w]: sinkhorn matches positions in space")
        b, _, t, height, width = values.shape
        gaps = segments(near)
        left, right = gaps.keyframes(values)
        with record_function(f"{PART}plan"):
            plan = self.plan(left, right)
        tokens, confidence = displace(
            plan,
            patches(left, self.patch),
            patches(right, self.patch),
            gaps.row_of_frame,
            gaps.alpha.flatten().to(values.dtype),
            self.prior_weight,
        )
        moved = from_patches(tokens, self.patch)[..., :height, :width].unflatten(0, (b, t)).transpose(1, 2)
        confidence = confidence.repeat_interleave(self.patch, 1).repeat_interleave(self.patch, 2)
        confidence = confidence[:, :height, :width].unflatten(0, (b, t))
        latents = torch.where(per_frame(gaps.inside, values), moved, lerp_frames(values, near))
        return Interpolation(latents, confidence * gaps.inside.view(b, t, 1, 1))

    def plan(self, left: Float[Tensor, "n c h w"], right: Float[Tensor, "n c h w"]) -> Float[Tensor, "n m m"]:
        """The plan ``P``: the mass from each token of ``left`` to each token of ``right``; the dustbins come last."""
        features, others = (patches(standardised(keyframe), self.patch) for keyframe in (left, right))
        quadratic = self.distance_weight * squared_distances(features)
        cost = quadratic / (1 + quadratic / self.distance_limit)
        similarity = unit(features.flatten(1, 2)) @ unit(others.flatten(1, 2)).mT
        return transport_plan(similarity - cost, self.epsilon, self.dustbin, self.iterations)


def displace(
    plan: Float[Tensor, "n m m"],
    left: Float[Tensor, "n rows cols d"],
    right: Float[Tensor, "n rows cols d"],
    segment: Int[Tensor, " f"],
    alpha: Float[Tensor, " f"],
    prior_weight: float,
) -> tuple[Float[Tensor, "f rows cols d"], Float[Tensor, "f rows cols"]]:
    """Tokens and confidence of frames at ``alpha`` between the keyframes of their segments; see :class:`Sinkhorn`."""
    grid = left.shape[1], left.shape[2]
    with record_function(f"{PART}splat"):
        to_left = splat_weights(plan[:, :-1, :-1], segment, alpha, grid)
        to_right = splat_weights(plan[:, :-1, :-1].mT, segment, 1 - alpha, grid)
    left, right = (tokens.flatten(1, 2).index_select(0, segment) for tokens in (left, right))
    with record_function(f"{PART}move"):
        from_left, from_right = to_left.mT @ left, to_right.mT @ right
    mass, a = to_left.sum(1).unsqueeze(2), alpha.view(-1, 1, 1)
    stays_left = (1 - a) * (plan[:, :-1, -1:].index_select(0, segment) + prior_weight)
    stays_right = a * (plan[:, -1:, :-1].mT.index_select(0, segment) + prior_weight)
    total = mass + stays_left + stays_right
    moved = torch.lerp(from_left, from_right, a)
    tokens = moved.addcmul_(stays_left, left).addcmul_(stays_right, right) / total
    difference = (from_left - from_right).square().mean(2, keepdim=True) / mass.clamp(min=TINY).square()
    confidence = mass / total / (1 + difference)
    return tokens.unflatten(1, grid), confidence.squeeze(2).unflatten(1, grid)


def splat_weights(
    plan: Float[Tensor, "n k k"], segment: Int[Tensor, " f"], alpha: Float[Tensor, " f"], grid: tuple[int, int]
) -> Float[Tensor, "f k k"]:
    """``W[i, q] = sum_j P_ij b(q - p_ij)``: the mass of token i that is at q at time ``alpha``.

    The grid is a product of rows and columns, and so is the bilinear kernel: with ``h(x) = max(0, 1 - |x|)``

        b(q - p_ij) = h(q_y - (1 - a) i_y - a j_y) h(q_x - (1 - a) i_x - a j_x)

    and the sum over j is two small matrix products, without a scatter.
    """
    rows, cols = grid
    over_y, over_x = _hats(alpha, rows), _hats(alpha, cols)
    plan = rearrange(plan, "n (iy ix) (jy jx) -> n ix (iy jy) jx", iy=rows, ix=cols, jy=rows, jx=cols)
    weights = plan.index_select(0, segment) @ over_x
    weights = over_y.mT @ rearrange(weights, "f ix (iy jy) qx -> f iy jy (ix qx)", iy=rows)
    return rearrange(weights, "f iy qy (ix qx) -> f (iy ix) (qy qx)", ix=cols)


def _hats(alpha: Float[Tensor, " f"], size: int) -> Float[Tensor, "f size size size"]:
    """``h(q - (1 - a) i - a j)`` along one axis, as ``[f, i, j, q]``."""
    axis = torch.arange(size, device=alpha.device, dtype=alpha.dtype)
    a = alpha.view(-1, 1, 1)
    position = (1 - a) * axis.view(-1, 1) + a * axis
    return (1 - (axis - position.unsqueeze(3)).abs()).clamp(min=0)


def patches(frame: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n rows cols d"]:
    """Tokens of ``size x size`` positions, ``d = c size^2``; the edge is repeated to complete the last ones."""
    height, width = frame.shape[2:]
    frame = F.pad(frame, (0, -width % size, 0, -height % size), mode="replicate")
    return rearrange(frame, "n c (y i) (x j) -> n y x (c i j)", i=size, j=size)


def from_patches(tokens: Float[Tensor, "n rows cols d"], size: int) -> Float[Tensor, "n c h w"]:
    """The inverse of :func:`patches`, including the repeated edge."""
    return rearrange(tokens, "n y x (c i j) -> n c (y i) (x j)", i=size, j=size)


def standardised(frame: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Normalises every channel of every frame to mean 0 and deviation 1, so that all channels count equally."""
    centred = frame - frame.mean((2, 3), keepdim=True)  # torch.var_mean takes ten times as long
    return centred / (centred.square().mean((2, 3), keepdim=True) + TINY**2).sqrt()


def unit(features: Float[Tensor, "n k d"]) -> Float[Tensor, "n k d"]:
    """Normalises features to length 1; a blank patch keeps length 0, so it resembles nothing."""
    return features / (features.square().sum(-1, keepdim=True) + TINY**2).sqrt()


def squared_distances(tokens: Float[Tensor, "n rows cols d"]) -> Float[Tensor, "k k"]:
    """``|p_i - p_j|^2`` between all positions of the grid, in tokens."""
    y, x = (torch.arange(size, dtype=tokens.dtype, device=tokens.device) for size in tokens.shape[1:3])
    position = torch.cartesian_prod(y, x)
    return (position.unsqueeze(1) - position).square().sum(2)
