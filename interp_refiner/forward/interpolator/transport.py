"""Entropic optimal transport between two sets of tokens, some of which have no partner."""

from math import log

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# Iterations between two exponentials of the whole plan. Each changes a scaling by a factor of at most 2 n (see
# `transport_plan`), so the product of eight stays below float32's limit e^88 up to n = 29,000.
ABSORB_EVERY = 8
# In units of epsilon below the dustbin: a pair with such a score has e^-40 of the dustbin's mass. Lower scores are
# raised to it, because their exponentials could be denormal numbers, which are slow.
LOWEST = -40.0


def transport_plan(
    scores: Float[Tensor, "b n n"], epsilon: float, dustbin: float, iterations: int
) -> Float[Tensor, "b n+1 n+1"]:
    """Matches n tokens with n others; tokens without a partner go to a dustbin (SuperGlue, Sarlin et al. 2020).

    With ``S`` the scores, bordered by a row and a column of value ``dustbin``, it maximises

        <P, S> + epsilon H(P)     subject to     P 1 = a,  P^T 1 = b,     a = b = [1, ..., 1, n]

    by Sinkhorn's iterations ``f = log a - LSE_j(S / epsilon + g)``, ``g = log b - LSE_i(S / epsilon + f)``. They end on
    ``g``: the plan's column sums are exact up to rounding, its row sums up to convergence.

    The potentials are kept in the log domain. Between two exponentials, :data:`ABSORB_EVERY` iterations only scale the
    plan ``exp(S / epsilon + f + g)`` (absorption: Schmitzer 2019, "Stabilized sparse scaling algorithms"). Such an
    iteration takes a tenth of the time, because it computes no exponentials. Nothing overflows: after the first
    iteration all row sums lie within a factor of ``2 n`` of their marginals, and later iterations do not increase this
    factor.

    Args:
        scores: similarity of every token of one set with every token of the other.
        epsilon: temperature; H is the entropy of P.
        dustbin: score above which a match is better than none.
        iterations: at least 1.

    Returns:
        P; its last row and column are the dustbins.
    """
    n = scores.shape[-1]
    logits = F.pad((scores - dustbin) / epsilon, (0, 1, 0, 1)).clamp(min=LOWEST)
    marginal = F.pad(scores.new_ones(1, 1, n), (0, 1), value=float(n))
    log_marginal = F.pad(scores.new_zeros(1, n), (0, 1), value=log(n))
    f = log_marginal - logits.logsumexp(2)
    g = log_marginal - (logits + f.unsqueeze(2)).logsumexp(1)
    done = 1
    while done < iterations:
        steps = min(ABSORB_EVERY, iterations - done)
        plan = (logits + f.unsqueeze(2)).add_(g.unsqueeze(1)).exp_()
        u, v = _scale(plan, marginal, steps)
        f, g, done = f + u.log(), g + v.log(), done + steps
    return (logits + f.unsqueeze(2)).add_(g.unsqueeze(1)).exp_()


def _scale(
    plan: Float[Tensor, "b m m"], marginal: Float[Tensor, "1 1 m"], steps: int
) -> tuple[Float[Tensor, "b m"], Float[Tensor, "b m"]]:
    """Scalings ``u, v`` that bring ``diag(u) P diag(v)`` nearer to its marginals."""
    transposed = plan.mT.contiguous()  # v @ a matrix with contiguous rows is ten times as fast as v @ its transpose
    v = torch.ones_like(plan[:, :1])
    for _ in range(steps):
        u = marginal / (v @ transposed)
        v = marginal / (u @ plan)
    return u.squeeze(1), v.squeeze(1)
