"""The bridge: the variance that its steps keep, the states that they visit, and its settings."""

import math
from copy import copy
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch

from interp_refiner.core import BadValue, Draws, per_frame, per_sample
from interp_refiner.model.sampler import Arc, Bridge, Even, steps_along
from tests.factories import corrupted_clip, make_corruption, random_clip
from tests.helpers import build, group_members

SPACINGS = group_members("sampler/spacing")
DEVIATION = 0.3  # of the residual that the tests of the variance are about


@cache
def forward(profile):
    return make_corruption(f"corruption={profile}")


def same_bits(a, b):
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


def variance_kept(sampler, sigma, profile="gauss"):
    """Of a Gaussian residual ``z0 - zbar ~ N(0, (sd m)^2)``, sampled with its exact clean estimate

    z0_hat = zbar + a sd^2 / (a^2 sd^2 + b^2) (x - zbar)        a = 1 - tau, b = tau sigma
    """
    corruption, clip = copy(forward(profile)), random_clip(space=(16, 24), batch=2, level=torch.tensor([3, 4]))
    corruption.sigma = sigma
    corrupted, draws = corruption(clip, "val"), Draws(0, "sample", clip.keys)

    def exact(state):
        a, b = 1 - state.tau, state.tau * sigma
        gain = a * DEVIATION**2 / (a**2 * DEVIATION**2 + b**2)
        return torch.lerp(state.interpolation, state.x, per_sample(gain, state.x))

    residual = sampler(exact, corrupted, draws, corruption) - corrupted.interpolation
    missing = per_frame(corrupted.missing, residual).expand_as(residual)
    unit = (residual / (DEVIATION * per_frame(corrupted.noise_profile, residual)))[missing]
    return float(unit.square().mean())


class TestVariance:
    """Bars that decide the defaults: at least .9 of the variance at 8 evaluations, and not more than it by a tenth."""

    @pytest.mark.parametrize("sigma", [0.2, 0.4, 0.8])
    @pytest.mark.parametrize("eta", [0.0, 1.0])
    def test_the_defaults_keep_it_in_eight_evaluations(self, sigma, eta):
        sampler = build("sampler", "bridge", f"sampler.eta={eta}")
        assert sampler.evaluations(4) == 8
        assert 0.95 < variance_kept(sampler, sigma) < 1.1

    @pytest.mark.parametrize("sigma", [0.2, 0.4, 0.8])
    @pytest.mark.parametrize("eta", [0.0, 1.0])
    def test_most_of_it_in_four(self, sigma, eta):
        assert 0.85 < variance_kept(Bridge(4, eta=eta), sigma) < 1.1

    @pytest.mark.parametrize("sigma", [0.2, 0.8])
    @pytest.mark.parametrize("eta", [0.0, 1.0])
    def test_on_the_arc_of_a_known_deviation_it_is_the_same_at_every_sigma(self, sigma, eta):
        known = variance_kept(Bridge(4, eta=eta, spacing=Arc(DEVIATION)), sigma)
        assert known == pytest.approx(0.93 if eta else 0.91, abs=0.01)

    def test_the_profile_of_the_noise_cancels(self):
        """As the residual's deviation follows the profile, all frames keep the same share."""
        flat, bridged = (variance_kept(Bridge(4), 0.4, profile) for profile in ("gauss", "dist"))
        assert bridged == pytest.approx(flat, abs=0.02)

    @pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("order", [1, 2])
    @pytest.mark.parametrize("spacing", SPACINGS)
    def test_many_steps_reach_the_law_itself(self, eta, order, spacing):
        """By the recursion of the state's covariance with the estimate before it, which is exact."""
        choice = [f"sampler.order={order}", f"sampler/spacing={spacing}", f"sampler.eta={eta}", "sampler.steps=400"]
        sigma, state, before = 0.4, torch.zeros(401, dtype=torch.float64), 0.0
        state[0] = sigma  # coefficients of the start's noise and of every step's
        for number, step in enumerate(build("sampler", "bridge", *choice).along(sigma)):
            a, b = 1 - step.tau, step.tau * sigma
            estimate = a * DEVIATION**2 / (a**2 * DEVIATION**2 + b**2) * state
            state = step.keep * state + step.pull * (estimate + step.ahead * (estimate - before))
            state[number + 1] += step.fresh * sigma
            before = estimate
        assert float(state.square().sum()) / DEVIATION**2 == pytest.approx(1.0, abs=0.02)

    def test_steps_of_first_order_lose_it(self):
        """The known values of two-point linear recursions: .51 and .72 of it in 4 and 8 steps."""
        assert variance_kept(Bridge(4, order=1), 0.4) == pytest.approx(0.51, abs=0.01)
        assert variance_kept(Bridge(8, order=1), 0.4) == pytest.approx(0.72, abs=0.01)


class TestSteps:
    """The numbers of a step against the formulas of DDIM, written out."""

    @pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
    def test_a_step_is_ddims(self, eta):
        s, taus = 0.37, [1.0, 0.8, 0.35, 0.1, 0.0]
        for step, after in zip(steps_along(taus, eta), taus[1:], strict=True):
            a, b, a_next, b_next = 1 - step.tau, step.tau * s, 1 - after, after * s
            c = eta * b_next * math.sqrt(max(0, 1 - (a * b_next / (a_next * b)) ** 2)) if after else 0.0
            of_noise = math.sqrt(b_next**2 - c**2) / b
            assert step.keep == pytest.approx(of_noise)
            assert step.pull == pytest.approx(a_next - of_noise * a)
            assert step.fresh * s == pytest.approx(c)
            assert step.ahead == 0

    def test_the_share_of_fresh_noise_shrinks_with_the_step(self):
        """As the root of the step, so that the noise that many steps add stays the same."""
        coarse, fine = (steps_along([1 - n / size for n in range(size + 1)], 1.0) for size in (64, 1024))
        assert coarse[32].fresh / fine[512].fresh == pytest.approx(4, rel=0.1)

    @pytest.mark.parametrize("spacing", [Even(), Arc(), Arc(0.9)])
    def test_between_the_ends_the_clock_is_the_logarithm_of_the_signal_to_noise_ratio(self, spacing):
        sigma, ratio = 0.3, spacing.relative_deviation(0.3)
        spacing.known_within = 1e4
        early, late = (ratio / (ratio + cotangent) for cotangent in (0.5, 3.0))
        assert spacing.clock(late, sigma) - spacing.clock(early, sigma) == pytest.approx(math.log(6), abs=1e-3)

    @pytest.mark.parametrize("spacing", [Even(), Arc(), Arc(0.9)])
    def test_it_runs_from_one_to_zero_and_so_does_the_clock(self, spacing):
        taus = spacing(7, 0.3)
        assert (taus[0], taus[-1], len(taus)) == (1.0, 0.0, 8)
        clock = [spacing.clock(tau, 0.3) for tau in taus]
        assert clock[0] == 0
        assert clock[-1] == pytest.approx(spacing.clock(1e-9, 0.3))
        assert all(a > b for a, b in pairwise(taus))
        assert all(a < b for a, b in pairwise(clock))

    def test_the_clock_is_the_mean_of_what_estimates_of_all_deviations_do(self):
        factors = torch.linspace(-math.log(8), math.log(8), 20001).exp()
        for tau in (0.9, 0.5, 0.2):
            phi = torch.atan2(torch.tensor(tau), (1 - tau) * factors)
            assert Even().clock(tau, 0.3) == pytest.approx(2 * math.log(8) * float(phi.cos().mean()), abs=1e-3)

    def test_angles_on_the_arc_are_even(self):
        sigma, sd = 0.5, 0.2
        angles = [math.atan2(tau * sigma, (1 - tau) * sd) for tau in Arc(sd)(6, sigma)]
        assert angles == pytest.approx([math.pi / 2 * (1 - n / 6) for n in range(7)])


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("spacing", [Even(), Arc(0.5)])
def test_it_passes_through_the_states_of_the_forward_process(order, spacing):
    """With an oracle and eta = 0 every visited state is the corruption at that tau, with the same noise."""
    corrupted, corruption, draws = corrupted_clip()
    visited = []

    def oracle(state):
        visited.append(state)
        return corrupted.clean

    Bridge(4, order, spacing=spacing)(oracle, corrupted, draws, corruption)
    assert [float(state.tau[0]) for state in visited] == pytest.approx(spacing(4, corrupted.sigma)[:-1])
    noise = corrupted.noise * per_frame(corrupted.sigma * corrupted.noise_profile, corrupted.noise)
    for state in visited:
        expected = torch.lerp(corrupted.clean, corrupted.interpolation + noise, float(state.tau[0]))
        torch.testing.assert_close(state.x, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_frames_without_noise_follow_the_estimate(eta):
    """Keyframes that are not given have m = 0: nothing is divided by it, and no noise is added to them."""
    overrides = ["scheduled_sampling=noisy", "scheduled_sampling.probability.evaluation=1.0"]
    corrupted, corruption, draws = corrupted_clip(*overrides)
    free = corrupted.known & ~corrupted.given & (corrupted.noise_profile == 0)
    assert free.any()
    model = lambda state: state.interpolation + 0.3 * (state.x - state.interpolation).tanh() + 0.1  # noqa: E731
    sample = Bridge(5, eta=eta)(model, corrupted, draws, corruption)
    other = replace(corrupted, noise=-corrupted.noise, x=2 * corrupted.interpolation - corrupted.x)
    mirrored = Bridge(5, eta=eta)(model, other, Draws(1, "sample", corrupted.clip.keys), corruption)
    assert sample.isfinite().all()
    assert torch.equal(sample.transpose(1, 2)[free], mirrored.transpose(1, 2)[free])
    assert not torch.equal(sample, mirrored)


def test_fresh_noise_changes_the_sample_and_depends_on_the_key_alone():
    corrupted, corruption, draws = corrupted_clip(batch=2)
    model, sampler = lambda state: state.x, Bridge(3, eta=0.8)
    first = sampler(model, corrupted, draws, corruption)
    assert same_bits(first, sampler(model, corrupted, draws, corruption))
    other = sampler(model, corrupted, Draws(1, "sample", corrupted.clip.keys), corruption)
    assert not torch.allclose(first, other)
    still = Bridge(3)(model, corrupted, draws, corruption)
    torch.testing.assert_close(still, corrupted.x, atol=1e-5, rtol=0)


def test_fresh_noise_is_as_correlated_as_the_corruptions():
    """With eta = 1 and an estimate of the interpolation, what is left after a step is the fresh noise alone."""
    overrides = ["corruption=gauss", "corruption.noise.temporal_correlation=0.8"]
    corrupted, corruption, draws = corrupted_clip(*overrides, space=(24, 24), level=torch.full((3,), 4))
    seen = []

    def silent(state):
        seen.append(state.x - state.interpolation)
        return state.interpolation

    Bridge(2, eta=1.0)(silent, corrupted, draws, corruption)
    both = (corrupted.missing[:, 1:] & corrupted.missing[:, :-1])[:, None, :, None, None]
    fresh = seen[1] / (0.5 * corrupted.sigma)
    product = (fresh[:, :, 1:] * fresh[:, :, :-1])[both.expand_as(fresh[:, :, 1:])].mean()
    assert product == pytest.approx(0.8, abs=0.05)


def test_several_steps_without_noise_are_refused_with_a_hint():
    corrupted, corruption, draws = corrupted_clip("corruption=none")
    with pytest.raises(BadValue, match=r"sampler\.steps=4: expected 1 with corruption=none.*one_jump"):
        Bridge(4)(lambda state: state.x, corrupted, draws, corruption)
    torch.testing.assert_close(Bridge(1)(lambda _: corrupted.clean, corrupted, draws, corruption), corrupted.clean)


@pytest.mark.parametrize(
    ("setting", "name"),
    [({"steps": 0}, "steps=0"), ({"eta": 1.5}, "eta=1.5"), ({"order": 3}, "order=3: expected 1 or 2")],
)
def test_bad_settings_name_themselves(setting, name):
    with pytest.raises(BadValue, match=name):
        Bridge(**setting)


@pytest.mark.parametrize("deviation", [0.0, -1.0, math.inf, math.nan])
def test_a_deviation_that_is_none_is_refused(deviation):
    with pytest.raises(BadValue, match=r"deviation=.*a finite number > 0, or null"):
        Arc(deviation)
