"""The consistency function: its start, its boundary, and its value for a Gaussian residual."""

import pytest
import torch

from interp_refiner.core import BadValue, per_frame, per_sample
from interp_refiner.model.objective import Consistency, Matching, Preconditioned
from interp_refiner.model.objective.preconditioned import FASTER
from tests.factories import corrupted_clip, spec_of
from tests.helpers import build

BRIDGE = ["corruption/bridge_time=uniform", "corruption.sigma=0.7"]
MODES = pytest.mark.parametrize("mode", ["dist", "disagreement"])


def drawn(mode, **fields):
    corrupted, _, _ = corrupted_clip(f"corruption={mode}", *BRIDGE, stream="train", batch=6, **fields)
    return corrupted, Consistency(spec_of(), 4, variance=0.6)


def carried(objective, corrupted, gain, output):
    """The estimate on missing frames, and ``zbar + sd p``."""
    torch.nn.init.constant_(objective.gain, gain / FASTER)
    missing = per_frame(corrupted.missing, corrupted.x).expand_as(corrupted.x)
    on = objective.arc(corrupted)
    end = corrupted.interpolation + on.deviation * on.point
    return objective.clean_estimate(output(on), corrupted)[missing], end[missing]


@MODES
def test_it_starts_as_its_teacher(mode):
    corrupted, student = drawn(mode)
    output = torch.randn_like(corrupted.x)
    teacher = Preconditioned(spec_of(), 4, variance=0.6)
    assert torch.equal(student.clean_estimate(output, corrupted), teacher.clean_estimate(output, corrupted))


@MODES
@pytest.mark.parametrize("gain", [0.0, 0.7])
def test_at_the_end_of_the_bridge_it_is_the_state_and_near_it_nearly(mode, gain):
    corrupted, student = drawn(mode)
    torch.nn.init.constant_(student.gain, gain)
    output, state = torch.randn_like(corrupted.x), torch.randn_like(corrupted.x)
    end = corrupted.at(torch.zeros(6), state)
    assert torch.equal(student.clean_estimate(output, end), end.x)
    near = corrupted.at(torch.full((6,), 1e-6), corrupted.interpolation + 1e-2 * state)
    missing = per_frame(near.missing, state).expand_as(state)
    torch.testing.assert_close(student.clean_estimate(output, near)[missing], near.x[missing], atol=1e-4, rtol=0)


@MODES
def test_of_a_unit_gaussian_residual_the_output_is_minus_the_tangent_of_half_the_angle(mode):
    """The ODE keeps the point on the arc: it ends at ``zbar + sd p``."""
    corrupted, student = drawn(mode)
    found, expected = carried(student, corrupted, 0.0, lambda on: -(0.5 * on.angle).tan() * on.point)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@MODES
def test_with_a_gain_of_one_the_same_takes_no_output(mode):
    corrupted, student = drawn(mode)
    found, expected = carried(student, corrupted, 1.0, lambda on: torch.zeros_like(on.point))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_at_the_start_of_the_bridge_the_gain_carries_the_share_of_any_gaussian():
    """Where ``q`` is the residual's deviation the ODE through ``s eps`` ends at ``q eps``."""
    corrupted, student = drawn("dist")
    start = corrupted.at(torch.ones(6), corrupted.x)
    q = 0.3 * student.arc(start).deviation
    found, _ = carried(student, start, 0.3, lambda on: torch.zeros_like(on.point))
    missing = per_frame(start.missing, start.x).expand_as(start.x)
    end = start.interpolation + q / start.amplitude.clamp(min=1e-9) * (start.x - start.interpolation)
    torch.testing.assert_close(found, end[missing], atol=1e-5, rtol=1e-4)


def test_the_scale_that_it_shares_with_its_teacher_is_not_trained():
    corrupted, student = drawn("dist")
    student(torch.randn_like(corrupted.x), corrupted).total.backward()
    assert not student.arc.log_variance.requires_grad
    assert (student.gain.grad != 0).all()


def test_a_loss_against_another_clip_is_in_the_unit_of_the_truth():
    corrupted, student = drawn("dist", level=torch.tensor([1, 2, 3, 4, 1, 2]))
    estimate, reference = torch.randn_like(corrupted.x), torch.randn_like(corrupted.x)
    student.level_error.totals += 0.5
    student.level_error.counts += 1
    loss = student.against(estimate, reference, corrupted)
    assert student.level_error.pending is None
    torch.testing.assert_close(loss.total, 2 * (loss.error + loss.temporal))
    free = per_frame(~corrupted.given, estimate)
    each = ((estimate - reference) * free).square().mean((1, 3, 4)).sum(1) / (~corrupted.given).sum(1)
    torch.testing.assert_close(loss.error, each.mean())
    assert per_sample(corrupted.tau, estimate).shape == (6, 1, 1, 1, 1)


def test_settings_are_checked():
    for name in ("consistency", "distribution_matching", "rcm"):
        made = build("objective", name, spec=spec_of(), num_levels=4)
        assert isinstance(made, Consistency)
        assert (made.consistency > 0, made.matching is not None) == (
            name != "distribution_matching",
            name != "consistency",
        )
    with pytest.raises(BadValue, match="consistency=0"):
        Consistency(spec_of(), 4, consistency=0.0)
    for wrong in ({"weight": 0.0}, {"student_every": 0}):
        with pytest.raises(BadValue, match=next(iter(wrong))):
            Matching(**wrong)
