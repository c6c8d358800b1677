"""Laws that every sampler has."""

from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch

from interp_refiner.core import BadValue, Draws
from interp_refiner.model.sampler import Arc, Bridge, Even, OneJump
from tests.factories import corrupted_clip, make_corruption, make_objective, random_clip
from tests.helpers import build, group_members

SAMPLERS = {
    **{name: build("sampler", name) for name in group_members("sampler")},
    **{
        f"{steps} steps of order {order}, eta {eta}, {type(spacing).__name__}": Bridge(steps, order, eta, spacing)
        for steps, order, eta, spacing in product(range(1, 9), (1, 2), (0.0, 0.5, 1.0), (Even(), Arc(0.4)))
    },
}
forward = cache(make_corruption)


def same_bits(a, b):
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


def start(*overrides, **fields):
    """A corrupted clip, what corrupts, and draws for every sampler."""
    clip, corruption = random_clip(**fields), forward(*overrides)
    return corruption(clip, "val"), corruption, Draws(0, "sample", clip.keys)


@pytest.mark.parametrize("space", [(4, 6), ()])
@pytest.mark.parametrize("interpolator", ["linear", "slerp", "spline"])
def test_an_oracle_gives_the_clean_clip(space, interpolator):
    corrupted, corruption, draws = start(f"interpolator={interpolator}", space=space, batch=2)
    for name, sampler in SAMPLERS.items():
        sample = sampler(lambda _: corrupted.clean, corrupted, draws, corruption)
        torch.testing.assert_close(sample, corrupted.clean, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("mode", ["dist", "gauss", "dist_linear"])
def test_given_frames_are_bit_for_bit_whatever_the_model_says(mode):
    corrupted, corruption, draws = start(f"corruption={mode}")
    corrupted.values[:, :, 0, 0, 0] = -0.0
    given, noisy = corrupted.given.nonzero(as_tuple=True), lambda state: 10 * torch.randn_like(state.x)
    for name, sampler in SAMPLERS.items():
        sample = sampler(noisy, corrupted, draws, corruption)
        assert same_bits(sample.transpose(1, 2)[given], corrupted.values.transpose(1, 2)[given]), name


def test_a_zero_correction_reproduces_linear_interpolation():
    corrupted, corruption, draws = start()
    for name, sampler in SAMPLERS.items():
        sample = sampler(lambda state: state.interpolation, corrupted, draws, corruption)
        torch.testing.assert_close(sample, corrupted.interpolation, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("interpolator", ["linear", "spline"])
def test_hierarchical_goes_down_on_estimates_of_the_next_finer_level(interpolator):
    """An oracle of ``objective=adjacent`` ends at the clean clip; one that stands still ends where it started."""
    corrupted, corruption, draws = corrupted_clip(f"interpolator={interpolator}", level=torch.tensor([4, 2, 1]))
    objective, levels = make_objective("adjacent"), []

    def oracle(state):
        levels.append(state.level.tolist())
        state = corruption.with_finer(replace(state, values=state.clean))
        return objective.clean_estimate(objective.target(state), state)

    sample = build("sampler", "hierarchical")(oracle, corrupted, draws, corruption)
    torch.testing.assert_close(sample, corrupted.clean, atol=1e-5, rtol=0)
    assert levels == [[4, 2, 1], [3, 1, 0], [2, 0, 0], [1, 0, 0]]


def test_an_adjacent_output_of_zero_reproduces_linear_interpolation_without_noise():
    corrupted, corruption, draws = corrupted_clip("corruption=none")
    objective = make_objective("adjacent")
    silent = lambda state: objective.clean_estimate(torch.zeros_like(state.x), state)  # noqa: E731
    sample = build("sampler", "hierarchical")(silent, corrupted, draws, corruption)
    torch.testing.assert_close(sample, corrupted.interpolation, atol=1e-5, rtol=0)


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
def test_a_part_of_the_way_has_an_error_on_a_parabola(strength):
    """With e the error of the interpolation and d = z0_hat - zbar: |e|^2 - 2 a <e, d> + a^2 |d|^2."""
    corrupted, corruption, draws = start()
    corrupted.values[:, :, 0, 0, 0] = -0.0
    estimate = corrupted.clean + 0.3 * torch.randn_like(corrupted.clean)
    sample = OneJump(strength=strength)(lambda _: estimate, corrupted, draws, corruption)
    given = corrupted.given.nonzero(as_tuple=True)
    assert same_bits(sample.transpose(1, 2)[given], corrupted.values.transpose(1, 2)[given])
    missing = corrupted.missing[:, None, :, None, None].expand_as(sample)
    e, d = ((x - corrupted.interpolation)[missing].double() for x in (corrupted.clean, estimate))
    expected = e.square().mean() - 2 * strength * (e * d).mean() + strength**2 * d.square().mean()
    found = (sample - corrupted.clean)[missing].double().square().mean()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.1, float("nan")])
def test_a_strength_outside_of_the_way_is_refused(strength):
    with pytest.raises(BadValue, match=f"strength={strength}: expected a number above 0"):
        OneJump(strength=strength)
