"""The robust loss: its known values, its units, and the estimate that it prefers."""

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.model.objective import Correction, Robust
from tests.factories import corrupted_clip, spec_of

ALPHAS = [1.5, 1.0, 0.5, 0.0, -2.0]


def frames_of(error: torch.Tensor) -> torch.Tensor:
    """``error``, one number per frame, as clips of one channel and one position."""
    return error.double().view(1, 1, -1, 1, 1)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_it_is_the_squared_error_of_small_errors_and_less_of_large_ones(alpha):
    penalty, unit = Robust(alpha, scale=0.5), torch.tensor([4.0]).double()
    small, large = torch.rand(64) * 1e-3, (1 + 10 * torch.rand(64)).sort().values
    torch.testing.assert_close(penalty(frames_of(small), unit)[0], small.double().square(), rtol=1e-5, atol=0)
    ratio = penalty(frames_of(large), unit)[0] / large.double().square()
    assert (ratio < 0.95).all()
    assert (ratio.diff() <= 0).all()


def test_known_values():
    error, unit = torch.randn(64).abs(), torch.tensor([2.0]).double()
    square, limit = error.double().square(), 0.3**2 * 2
    charbonnier = 2 * limit * ((square / limit + 1).sqrt() - 1)
    torch.testing.assert_close(Robust(1.0, 0.3)(frames_of(error), unit)[0], charbonnier)
    cauchy = 2 * limit * (square / (2 * limit) + 1).log()
    torch.testing.assert_close(Robust(0.0, 0.3)(frames_of(error), unit)[0], cauchy)
    torch.testing.assert_close(Robust(1e-6, 0.3)(frames_of(error), unit)[0], cauchy, rtol=1e-4, atol=1e-6)
    geman_mcclure = 2 * square * 4 * limit / (square + 4 * limit) / 2  # Barron's equation 1 at alpha = -2, scaled alike
    torch.testing.assert_close(Robust(-2.0, 0.3)(frames_of(error), unit)[0], geman_mcclure)


@pytest.mark.parametrize("alpha", [*ALPHAS, 1e-3, -1e-3])
@pytest.mark.parametrize("size", [1e-3, 1.0])  # of the errors; the square of the smallest is lost beside 1 in float32
def test_float32_does_not_cancel(alpha, size):
    penalty, error, unit = Robust(alpha, 0.3), frames_of(size * torch.rand(64)), torch.tensor([2.0])
    exact = penalty(error, unit.double())
    torch.testing.assert_close(penalty(error.float(), unit).double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_clip_of_larger_contrast_has_the_same_loss_in_its_own_units(alpha):
    penalty, error, unit = Robust(alpha), torch.randn(3, 4, 5, 2, 6), 0.1 + torch.rand(3)
    torch.testing.assert_close(penalty(7 * error, 49 * unit), 49 * penalty(error, unit))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_loss_of_a_batch_equals_a_slow_loop(alpha):
    corrupted, _, _ = corrupted_clip(batch=3)
    objective = Correction(spec_of(), 4, temporal_weight=0.7, penalty=Robust(alpha, 0.4))
    objective.level_error.totals += torch.tensor([0.0, 2.0, 3.0, 8.0, 10.0])
    objective.level_error.counts += torch.tensor([0.0, 4.0, 4.0, 4.0, 5.0])
    output, samples = torch.randn_like(corrupted.x), []
    for i, unit in enumerate(objective.level_error(corrupted.level).tolist()):

        def of(error: torch.Tensor, unit: float = unit) -> torch.Tensor:
            alone = error[None, :, None]
            return objective.penalty(alone, torch.tensor([unit]))[0, 0] / unit

        error = corrupted.interpolation[i] + output[i] - corrupted.clean[i]
        error[:, corrupted.given[i]] = 0
        free = [t for t in range(21) if not corrupted.given[i, t]]
        moving = [t for t in range(20) if t in free or t + 1 in free]
        frames = torch.stack([of(error[:, t]) for t in free]).mean()
        samples.append(frames + 0.7 * torch.stack([of(error[:, t + 1] - error[:, t]) for t in moving]).mean())
    loss = objective(output, corrupted)
    torch.testing.assert_close(loss.total, torch.stack(samples).mean())
    torch.testing.assert_close(loss.error, Correction(spec_of(), 4)(output, corrupted).error)  # still the squared error


def test_it_prefers_the_likely_motion_to_the_mean_of_both():
    """Truth 0 in 70% of the cases and 1 in 30%: the mean is .3."""
    truth = torch.cat([torch.zeros(70), torch.ones(30)]).double()
    grid = torch.linspace(-0.5, 1.5, 401).double()
    best = {}
    for alpha in ALPHAS:
        every = (grid[:, None] - truth)[:, None, :, None, None]
        loss = Robust(alpha, 0.1)(every, torch.ones(len(grid)).double()).mean(1)
        best[alpha] = grid[loss.argmin()].item()
    assert best[1.5] < 0.25
    assert best[1.0] < 0.1
    assert best[0.0] < 0.02


def test_the_gradient_is_finite_where_there_is_no_error():
    error = torch.zeros(1, 2, 3, 4, 4, requires_grad=True)
    for alpha in ALPHAS:
        (gradient,) = torch.autograd.grad(Robust(alpha)(error, torch.full((1,), 1e-8)).sum(), error)
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("alpha", value) for value in (2.0, float("nan"), float("-inf"))),
        *(("scale", value) for value in (0.0, -1.0, float("inf"), float("nan"))),
    ],
)
def test_values_without_a_meaning_are_refused(setting, value):
    with pytest.raises(BadValue, match=f"{setting}={value}"):
        Robust(**{setting: value})
