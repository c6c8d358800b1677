"""Laws that every sampler has."""

from dataclasses import replace

import pytest
import torch

from interp_refiner.core import BadValue, Draws
from interp_refiner.model.sampler import Bridge, bridge
from tests.factories import corrupted_clip, make_objective
from tests.helpers import build, group_members

MEMBERS = group_members("sampler")
EXACT = [*((name, ()) for name in MEMBERS), ("bridge", ("sampler.steps=7", "sampler.eta=0.5"))]


def same_bits(a, b):
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


@pytest.mark.parametrize(("name", "overrides"), EXACT)
@pytest.mark.parametrize("space", [(4, 6), ()])
@pytest.mark.parametrize("interpolator", ["linear", "slerp", "spline"])
def test_an_oracle_gives_the_clean_clip(name, overrides, space, interpolator):
    corrupted, corruption, draws = corrupted_clip(f"interpolator={interpolator}", space=space)
    sample = build("sampler", name, *overrides)(lambda _: corrupted.clean, corrupted, draws, corruption)
    torch.testing.assert_close(sample, corrupted.clean, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "overrides"), EXACT)
@pytest.mark.parametrize("mode", ["dist", "gauss", "dist_linear"])
def test_given_frames_are_bit_for_bit_whatever_the_model_says(name, overrides, mode):
    corrupted, corruption, draws = corrupted_clip(f"corruption={mode}")
    corrupted.values[:, :, 0, 0, 0] = -0.0
    noisy = lambda state: 10 * torch.randn_like(state.x)  # noqa: E731
    sample = build("sampler", name, *overrides)(noisy, corrupted, draws, corruption)
    given = corrupted.given.nonzero(as_tuple=True)
    assert same_bits(sample.transpose(1, 2)[given], corrupted.values.transpose(1, 2)[given])


@pytest.mark.parametrize(("name", "overrides"), EXACT)
def test_a_zero_correction_reproduces_linear_interpolation(name, overrides):
    corrupted, corruption, draws = corrupted_clip()
    sample = build("sampler", name, *overrides)(lambda state: state.interpolation, corrupted, draws, corruption)
    torch.testing.assert_close(sample, corrupted.interpolation, atol=1e-5, rtol=0)


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


def test_bridge_passes_through_the_states_of_the_forward_process():
    """With an oracle and eta = 0 every visited state is the corruption at that tau, with the same noise."""
    corrupted, _, draws = corrupted_clip()
    visited = []

    def oracle(state):
        visited.append(state)
        return corrupted.clean

    bridge(oracle, corrupted, draws, steps=4)
    assert [float(state.tau[0]) for state in visited] == [1.0, 0.75, 0.5, 0.25]
    for state in visited:
        tau = float(state.tau[0])
        noisy = (
            corrupted.interpolation
            + corrupted.noise * (corrupted.sigma * corrupted.noise_profile)[:, None, :, None, None]
        )
        torch.testing.assert_close(state.x, (1 - tau) * corrupted.clean + tau * noisy, atol=1e-5, rtol=0)


def test_fresh_noise_changes_the_sample_and_depends_on_the_key_alone():
    corrupted, _, draws = corrupted_clip(batch=2)
    model = lambda state: state.x  # noqa: E731
    first = bridge(model, corrupted, draws, steps=3, eta=0.8)
    assert same_bits(first, bridge(model, corrupted, draws, steps=3, eta=0.8))
    other = bridge(model, corrupted, Draws(1, "sample", corrupted.clip.keys), steps=3, eta=0.8)
    assert not torch.allclose(first, other)


def test_temperature_scales_the_noise_of_the_start():
    corrupted, corruption, draws = corrupted_clip()
    seen = []

    def oracle(state):
        seen.append(state.x)
        return corrupted.clean

    sample = build("sampler", "bridge", "sampler.temperature=1.5")
    sample(oracle, corrupted, draws, corruption)
    expected = corrupted.interpolation + 1.5 * (corrupted.x - corrupted.interpolation)
    torch.testing.assert_close(seen[0], expected)


def test_fresh_noise_is_as_correlated_as_the_corruptions():
    """With eta = 1 and an estimate of the interpolation, what is left after a step is the fresh noise alone."""
    overrides = ["corruption=gauss", "corruption.noise.temporal_correlation=0.8"]
    corrupted, corruption, draws = corrupted_clip(*overrides, space=(24, 24), level=torch.full((3,), 4))
    seen = []

    def silent(state):
        seen.append(state.x - state.interpolation)
        return state.interpolation

    build("sampler", "bridge", "sampler.steps=2", "sampler.eta=1.0")(silent, corrupted, draws, corruption)
    both = (corrupted.missing[:, 1:] & corrupted.missing[:, :-1])[:, None, :, None, None]
    fresh = seen[1] / (0.5 * corrupted.sigma)
    product = (fresh[:, :, 1:] * fresh[:, :, :-1])[both.expand_as(fresh[:, :, 1:])].mean()
    assert product == pytest.approx(0.8, abs=0.05)


def test_several_steps_without_noise_are_refused_with_a_hint():
    corrupted, _, draws = corrupted_clip("corruption=none")
    with pytest.raises(BadValue, match=r"sampler\.steps=4: expected 1 on corruption=none.*one_jump"):
        bridge(lambda state: state.x, corrupted, draws, steps=4)
    torch.testing.assert_close(bridge(lambda _: corrupted.clean, corrupted, draws, steps=1), corrupted.clean)


@pytest.mark.parametrize(
    ("setting", "name"), [({"steps": 0}, "steps=0"), ({"eta": 1.5}, "eta=1.5"), ({"temperature": 0.0}, "temperature=0")]
)
def test_bad_settings_name_themselves(setting, name):
    with pytest.raises(BadValue, match=name):
        Bridge(**setting)
