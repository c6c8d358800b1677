"""Spearman's rank correlation."""

import torch
from jaxtyping import Float
from torch import Tensor


def rank_correlation(x: Float[Tensor, "*n"], y: Float[Tensor, "*n"]) -> float | None:
    """Pearson's correlation of the ranks of all numbers in ``x`` and ``y``; None if one of them is constant."""
    a, b = ranks(x.flatten()), ranks(y.flatten())
    a, b = a - a.mean(), b - b.mean()
    norm = (a.square().sum() * b.square().sum()).sqrt().item()
    return (a @ b).item() / norm if norm > 0 else None


def ranks(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Ranks from 1 on, in float64; equal numbers get the mean of their ranks."""
    _, inverse, count = torch.unique(x, return_inverse=True, return_counts=True)
    return (count.cumsum(0) - (count - 1) / 2).double()[inverse]
