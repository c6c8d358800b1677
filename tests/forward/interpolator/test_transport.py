"""Sinkhorn's algorithm: its marginals, its optimum and its numerical stability."""

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_refiner.forward.interpolator.transport import transport_plan


def scores(batch, n, seed=0, dtype=torch.float32):
    """Cosines of random unit vectors with noisy copies of themselves, in another order."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.nn.functional.normalize(torch.randn(batch, n, 24, generator=generator, dtype=dtype), dim=2)
    noise = torch.randn(batch, n, 24, generator=generator, dtype=dtype) / 24**0.5
    right = torch.nn.functional.normalize(left + 0.7 * noise, dim=2)
    return left @ right[:, torch.randperm(n, generator=generator)].mT


def marginals(n, dtype=torch.float32):
    return torch.tensor([1.0] * n + [float(n)], dtype=dtype)


def plain(score, epsilon, dustbin, iterations):
    """The iterations of the docstring, word for word."""
    n = score.shape[-1]
    bordered = torch.full((n + 1, n + 1), dustbin, dtype=score.dtype)
    bordered[:n, :n] = score
    f, g, mu = torch.zeros(n + 1).to(score), torch.zeros(n + 1).to(score), marginals(n, score.dtype).log()
    for _ in range(iterations):
        f = mu - (bordered / epsilon + g).logsumexp(1)
        g = mu - (bordered / epsilon + f.unsqueeze(1)).logsumexp(0)
    return (bordered / epsilon + f.unsqueeze(1) + g).exp()


def excess(total):
    """Of sums over one marginal, relative to what they should be."""
    expected = marginals(total.shape[-1] - 1)
    return ((total - expected) / expected).abs()


@given(n=st.integers(8, 40), seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_marginals(n, seed):
    """30 iterations: columns to 1e-5, rows to 1e-2 (their mean; the slowest to 3e-2); 500: both to 1e-5."""
    soon, late = (transport_plan(scores(2, n, seed), 0.05, 0.4, iterations) for iterations in (30, 500))
    assert excess(soon.sum(1)).max() < 1e-5
    assert excess(soon.sum(2)).mean() < 1e-2
    assert excess(soon.sum(2)).max() < 3e-2
    assert excess(late.sum(1)).max() < 1e-5
    assert excess(late.sum(2)).max() < 1e-5


@pytest.mark.parametrize("iterations", [1, 2, 8, 9, 10, 30, 50])
def test_absorption_changes_nothing(iterations):
    score = scores(1, 20, dtype=torch.float64)
    plan = transport_plan(score, 0.05, 0.4, iterations)
    torch.testing.assert_close(plan[0], plain(score[0], 0.05, 0.4, iterations), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize(("n", "epsilon", "dustbin"), [(5, 0.05, 0.4), (12, 0.1, 0.2), (12, 0.03, 0.6)])
def test_it_is_the_plan_of_python_optimal_transport(n, epsilon, dustbin):
    score = scores(1, n, seed=n, dtype=torch.float64)[0]
    cost = np.full((n + 1, n + 1), -dustbin)
    cost[:n, :n] = -score.numpy()
    mu = marginals(n, torch.float64).numpy()
    expected = ot.sinkhorn(mu, mu, cost, epsilon, method="sinkhorn_log", numItermax=20_000, stopThr=1e-13)
    plan = transport_plan(score.unsqueeze(0), epsilon, dustbin, 5000)[0].numpy()
    np.testing.assert_allclose(plan, expected, atol=1e-8)


def test_at_low_temperature_it_is_the_exact_assignment():
    score = scores(1, 10, seed=3, dtype=torch.float64)[0]
    cost = np.zeros((11, 11))
    cost[:10, :10] = 0.4 - score.numpy()
    mu = marginals(10, torch.float64).numpy()
    plan = transport_plan(score.unsqueeze(0), 0.002, 0.4, 3000)[0].numpy()
    np.testing.assert_allclose(plan, ot.emd(mu, mu, cost), atol=1e-3)


def test_unrelated_tokens_go_to_the_dustbin():
    """All scores 0: with s = exp(dustbin / epsilon) the matched share is 1 / (1 + sqrt(s)) exactly."""
    plan = transport_plan(torch.zeros(1, 390, 390), 0.05, 0.4, 200)
    share = plan[0, :-1, :-1].sum() / 390
    torch.testing.assert_close(share.item(), 1 / (1 + np.exp(0.4 / 0.05 / 2)), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("epsilon", [2e-3, 0.05, 10.0])
@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_nothing_overflows(epsilon, scale):
    """Scores far below the dustbin, as distant tokens have, and temperatures beyond use."""
    score = (scale * scores(2, 64)).requires_grad_()
    plan = transport_plan(score, epsilon, 0.4, 60)
    assert plan.isfinite().all()
    resolution = 2**-22 * (score.abs().max() / epsilon).item()  # of float32 at the largest logit
    assert excess(plan.sum(1)).max() < 1e-5 + resolution
    plan.square().sum().backward()
    assert score.grad.isfinite().all()


def test_gradients_are_right():
    score = scores(2, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: transport_plan(s, 0.2, 0.4, 12), score)


def test_problems_of_a_batch_do_not_touch():
    score = scores(3, 9)
    together = transport_plan(score, 0.05, 0.4, 30)
    alone = torch.cat([transport_plan(one.unsqueeze(0), 0.05, 0.4, 30) for one in score])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)
