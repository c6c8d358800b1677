"""Laws that every member of the group has, and the loss's known values."""

import pytest
import torch

from interp_refiner.core import BadValue, per_frame
from interp_refiner.objective import Correction, Velocity
from tests.factories import corrupted_clip
from tests.helpers import build, group_members

MEMBERS = group_members("objective")


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("space", [(4, 6), ()])
def test_target_and_clean_estimate_round_trip(name, space):
    corrupted, corruption, _ = corrupted_clip("corruption/bridge_time=uniform", stream="train", space=space)
    objective = build("objective", name, num_levels=corruption.num_levels(21))
    estimate = objective.clean_estimate(objective.target(corrupted), corrupted)
    free = per_frame(~corrupted.given, estimate).expand_as(estimate)
    torch.testing.assert_close(estimate[free], corrupted.clean[free], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MEMBERS)
def test_loss_is_zero_at_the_target_and_not_elsewhere(name):
    corrupted, _, _ = corrupted_clip()
    objective = build("objective", name, num_levels=4)
    target = objective.target(corrupted)
    assert objective(target, corrupted).total < 1e-9
    assert objective(target + torch.randn_like(target), corrupted).total > 1e-3


def test_loss_equals_a_slow_loop():
    corrupted, _, _ = corrupted_clip(batch=4)
    objective = Correction(num_levels=4, temporal_weight=0.7)
    objective.level_error.totals += torch.tensor([0.0, 2.0, 3.0, 8.0, 10.0])
    objective.level_error.counts += torch.tensor([0.0, 4.0, 0.0, 4.0, 5.0])
    variance = {1: 0.5, 2: 1.0, 3: 2.0, 4: 2.0}  # level 2 was never seen: 1
    output = torch.randn_like(corrupted.x)
    samples = []
    for i in range(4):
        error = (corrupted.interpolation[i] + output[i] - corrupted.clean[i]).clone()
        error[:, corrupted.given[i]] = 0
        free = [t for t in range(21) if not corrupted.given[i, t]]
        frames = torch.stack([error[:, t].square().mean() for t in free]).mean()
        moving = [t for t in range(20) if t in free or t + 1 in free]
        steps = torch.stack([(error[:, t + 1] - error[:, t]).square().mean() for t in moving]).mean()
        samples.append((frames + 0.7 * steps) / variance[int(corrupted.level[i])])
    torch.testing.assert_close(objective(output, corrupted).total, torch.stack(samples).mean())


def test_given_frames_do_not_enter_the_loss():
    corrupted, _, _ = corrupted_clip()
    objective = Correction(num_levels=4)
    output = torch.randn_like(corrupted.x)
    spoiled = torch.where(per_frame(corrupted.given, output), 1e3, output)
    assert torch.equal(objective(output, corrupted).total, objective(spoiled, corrupted).total)


def test_level_error_is_the_mean_over_samples_and_waits_for_the_step():
    corrupted, _, _ = corrupted_clip(batch=6, level=torch.tensor([1, 1, 2, 2, 2, 4]))
    objective = Correction(num_levels=4)
    first = objective(torch.zeros_like(corrupted.x), corrupted).total
    again = objective(torch.zeros_like(corrupted.x), corrupted).total
    assert torch.equal(first, again)  # observed, not yet committed
    objective.level_error.commit()
    error = (corrupted.interpolation - corrupted.clean).square().mean((1, 3, 4))
    for level in (1, 2, 4):
        mine = [error[i][~corrupted.given[i]].mean() for i in range(6) if corrupted.level[i] == level]
        expected = torch.stack(mine).mean()
        torch.testing.assert_close(objective.level_error(torch.tensor([level]))[0], expected)
    assert objective.level_error(torch.tensor([3]))[0] == 1
    assert "level_error.totals" in objective.state_dict()


def test_velocity_is_refused_where_a_free_frame_has_no_noise():
    objective = Velocity(num_levels=4)
    objective.check(sigma=0.3, keyframes_replaced=False, keyframe_fraction=0.0)
    objective.check(sigma=0.3, keyframes_replaced=True, keyframe_fraction=0.5)
    with pytest.raises(BadValue, match=r"corruption\.sigma=0"):
        objective.check(sigma=0.0, keyframes_replaced=False, keyframe_fraction=0.0)
    with pytest.raises(BadValue, match=r"corruption\.keyframe_fraction=0"):
        objective.check(sigma=0.3, keyframes_replaced=True, keyframe_fraction=0.0)


def test_negative_temporal_weight_is_refused():
    with pytest.raises(BadValue, match="temporal_weight=-1"):
        Correction(num_levels=4, temporal_weight=-1.0)
