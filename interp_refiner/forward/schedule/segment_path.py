"""Sets of keyframes as paths through a clip: a step from keyframe i to keyframe j costs ``cost[i, j]``.

One recursion over frames covers all paths of K keyframes. With ``min`` it finds the cheapest path, with ``logsumexp``
the normaliser of the distribution ``p(path) ~ exp(-cost(path))``, a semi-Markov conditional random field (Sarawagi &
Cohen 2004).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NATS = 1e3  # exp(-NATS) = 0


def prohibitive(cost: Float[Tensor, "b t t"]) -> Float[Tensor, "b 1 1"]:
    """A finite cost in place of infinity, which keeps gradients finite. Any path with it costs more than one without.

    Paths have fewer than T segments, so two of them differ by less than ``2 T`` times the largest finite cost. The
    difference to any path without this cost is at least :data:`NATS`.
    """
    finite = cost.detach().masked_fill(~cost.isfinite(), 0.0).triu(1)
    return 2 * cost.shape[1] * finite.abs().amax((1, 2), keepdim=True) + NATS


def finite_cost(cost: Float[Tensor, "b t t"]) -> Float[Tensor, "b t t"]:
    """Replaces costs that are not finite (from clips with NaN) by a :func:`prohibitive` one."""
    return torch.where(cost.isfinite(), cost, prohibitive(cost))


def steps(forced: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t t"]:
    """The pairs i < j that may be consecutive keyframes: no forced frame lies between."""
    frame = torch.arange(forced.shape[1], device=forced.device)
    passed = forced.cumsum(1)  # forced frames up to and including t
    skips_forced = (passed - forced.long()).unsqueeze(1) > passed.unsqueeze(2)
    return ~skips_forced & (frame.unsqueeze(1) < frame)


def best_superset(cost: Float[Tensor, "b t t"], forced: Bool[Tensor, "b t"], count: int) -> Bool[Tensor, "b t"]:
    """The ``count`` keyframes of least total cost among the sets that contain ``forced``.

        best[k, j] = min over i < j of best[k - 1, i] + cost[i, j],    no forced frame between i and j

    Args:
        cost: additive cost of the segment between consecutive keyframes i < j; other entries are not read. Segments
            whose cost is not finite are avoided as far as possible.
        forced: must contain the first and the last frame. If it has ``count`` frames or more, it is the result.
        count: K.
    """
    frame = torch.arange(forced.shape[1], device=forced.device)
    step = finite_cost(cost).masked_fill(~steps(forced), torch.inf)
    best = torch.where(frame == 0, 0.0, torch.inf).to(cost).expand_as(forced)
    came_from = []
    for _ in range(count - 1):
        best, previous = (best.unsqueeze(2) + step).min(1)
        came_from.append(previous)
    chosen, here = forced.clone(), torch.full_like(frame[:1].expand(len(forced), 1), forced.shape[1] - 1)
    for previous in reversed(came_from):
        here = previous.gather(1, here)
        chosen.scatter_(1, here, True)
    return torch.where(forced.sum(1, keepdim=True) < count, chosen, forced)


def path_cost(cost: Float[Tensor, "b t t"], keyframes: Bool[Tensor, "b t"]) -> Float[Tensor, " b"]:
    """The sum of the costs of the segments between consecutive keyframes."""
    consecutive = steps(keyframes) & keyframes.unsqueeze(1) & keyframes.unsqueeze(2)
    return cost.masked_fill(~consecutive, 0.0).sum((1, 2))


def log_likelihood(
    cost: Float[Tensor, "b t t"], keyframes: Bool[Tensor, "b t"], forced: Bool[Tensor, "b t"], count: int
) -> Float[Tensor, " b"]:
    """``log p(keyframes)`` among all sets of ``count`` frames that contain ``forced``, ``p ~ exp(-path_cost)``.

    Args:
        cost: as in :func:`best_superset`; negative entries are allowed.
        keyframes: the set; it contains both ends of the clip.
        forced: a subset of it, which also contains both ends. If it has ``count`` frames, the result is 0.
        count: K.
    """
    frame = torch.arange(forced.shape[1], device=forced.device)
    no_step = prohibitive(cost)
    step = -torch.where(steps(forced), cost, no_step)
    weight = torch.where(frame == 0, 0.0, -no_step.squeeze(2))
    for _ in range(count - 1):
        weight = (weight.unsqueeze(2) + step).logsumexp(1)
    free = forced.sum(1) < count
    return torch.where(free, -path_cost(cost, keyframes) - weight[:, -1], 0.0)
