"""Laws that every sampler has."""

from dataclasses import replace

import pytest
import torch

from tests.factories import corrupted_clip, make_objective
from tests.helpers import build, group_members

MEMBERS = group_members("sampler")
BRIDGES = [
    (f"sampler.steps={steps}", f"sampler.order={order}", f"sampler.eta={eta}", f"sampler/spacing={spacing}")
    for steps, order, eta, spacing in [
        (1, 2, 1.0, "even"),
        (2, 1, 0.5, "arc"),
        (3, 2, 0.0, "even"),
        (4, 1, 1.0, "even"),
        (5, 2, 1.0, "arc"),
        (6, 2, 0.5, "even"),
        (7, 1, 0.0, "arc"),
        (8, 2, 0.0, "arc"),
    ]
]
EXACT = [*((name, ()) for name in MEMBERS), *(("bridge", settings) for settings in BRIDGES)]


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
