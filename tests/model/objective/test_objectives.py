"""Laws that every member of the group has, and the loss's known values."""

from dataclasses import replace

import pytest
import torch

from interp_refiner.core import BadValue, per_frame
from interp_refiner.model.objective import Correction, Velocity
from interp_refiner.training import check_method
from tests.factories import corrupted_clip, make_corruption, make_objective, random_clip, spec_of
from tests.helpers import build, group_members

MEMBERS = group_members("objective")


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("space", [(4, 6), ()])
def test_target_and_clean_estimate_round_trip(name, space):
    corrupted, corruption, _ = corrupted_clip("corruption/bridge_time=uniform", stream="train", space=space, batch=8)
    corrupted = corruption.with_finer(corrupted)
    objective = make_objective(name)
    estimate, aim = objective.clean_estimate(objective.target(corrupted), corrupted), objective.reference(corrupted)
    free = per_frame(~corrupted.given, estimate).expand_as(estimate)
    torch.testing.assert_close(estimate[free], aim[free], atol=1e-5, rtol=1e-5)
    clean = (corrupted.level == 1) if objective.estimates_finer else torch.ones_like(corrupted.level).bool()
    assert clean.any()
    assert torch.equal(aim[clean], corrupted.clean[clean])
    assert all(not torch.equal(*pair) for pair in zip(aim[~clean], corrupted.clean[~clean], strict=True))


@pytest.mark.parametrize("name", MEMBERS)
def test_loss_is_zero_at_the_target_and_not_elsewhere(name):
    corrupted, corruption, _ = corrupted_clip()
    corrupted = corruption.with_finer(corrupted)
    objective = make_objective(name)
    target = objective.target(corrupted)
    rounding = 1e-5 if name == "energy_score" else 1e-9  # of distances, else of their squares
    assert objective(target, corrupted).total < rounding
    assert objective(target + torch.randn_like(target), corrupted).total > 1e-3


def test_loss_equals_a_slow_loop():
    corrupted, _, _ = corrupted_clip(batch=4)
    objective = Correction(spec_of(), 4, temporal_weight=0.7)
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
    objective = Correction(spec_of(), 4)
    output = torch.randn_like(corrupted.x)
    spoiled = torch.where(per_frame(corrupted.given, output), 1e3, output)
    assert torch.equal(objective(output, corrupted).total, objective(spoiled, corrupted).total)


def test_level_error_is_the_mean_over_samples_and_waits_for_the_step():
    corrupted, _, _ = corrupted_clip(batch=6, level=torch.tensor([1, 1, 2, 2, 2, 4]))
    objective = Correction(spec_of(), 4)
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
    objective = Velocity(spec_of(), 4)
    objective.check(sigma=0.3, keyframes_replaced=False, keyframe_fraction=0.0)
    objective.check(sigma=0.3, keyframes_replaced=True, keyframe_fraction=0.5)
    with pytest.raises(BadValue, match=r"corruption\.sigma=0"):
        objective.check(sigma=0.0, keyframes_replaced=False, keyframe_fraction=0.0)
    with pytest.raises(BadValue, match=r"corruption\.keyframe_fraction=0"):
        objective.check(sigma=0.3, keyframes_replaced=True, keyframe_fraction=0.0)


def test_negative_temporal_weight_is_refused():
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadValue, match=f"temporal_weight={weight}"):
            Correction(spec_of(), 4, temporal_weight=weight)


class TestAdjacent:
    """The next finer level, from the same draws."""

    @pytest.mark.parametrize("level", [1, 2, 3, 4])
    @pytest.mark.parametrize("bridge_time", ["fully_corrupted", "uniform"])
    def test_it_aims_at_what_the_corruption_of_that_level_is(self, level, bridge_time):
        """Noise, bridge time, plan and replacements are those that the finer level has when it is drawn itself."""
        overrides = ["scheduled_sampling=noisy", "corruption.keyframe_fraction=0.5"]
        forward = make_corruption(*overrides, f"corruption/bridge_time={bridge_time}")
        given_frames = torch.zeros(4, 21, dtype=torch.bool)
        given_frames[:, 7] = True
        clip = random_clip(batch=4, given=given_frames, step=0, level=torch.full((4,), level))
        here = forward.with_finer(forward(clip, "train"))
        assert here.replaced.any()
        if level == 1:
            assert torch.equal(here.finer, clip.latents)
        else:
            there = forward(replace(clip, level=clip.level - 1), "train")
            assert (there.replaced & ~here.replaced).any(), "keyframes that the finer level adds are replaced alike"
            assert torch.equal(here.finer, there.x)
        assert torch.equal(here.finer[:, :, 7], clip.latents[:, :, 7])

    def test_the_unit_of_its_loss_is_what_standing_still_costs(self):
        forward = make_corruption()
        here = forward.with_finer(forward(random_clip(batch=6), "train"))
        objective = make_objective("adjacent")
        objective(torch.zeros_like(here.x), here)
        objective.level_error.commit()
        objective.temporal_weight = 0.0
        losses = torch.stack([objective(torch.zeros_like(here.x), here).total for _ in range(2)])
        torch.testing.assert_close(losses, torch.ones(2), atol=1e-4, rtol=0)

    def test_without_a_finer_level_it_says_what_is_missing(self):
        corrupted, _, _ = corrupted_clip()
        with pytest.raises(ValueError, match=r"finer is None: expected a result of Corruption\.with_finer"):
            make_objective("adjacent").target(corrupted)

    @pytest.mark.parametrize("name", ["one_jump", "bridge"])
    def test_samplers_that_need_the_clean_clip_are_refused(self, name):
        sampler, objective = build("sampler", name), make_objective("adjacent")
        with pytest.raises(BadValue, match=rf"sampler={type(sampler).__name__}: expected hierarchical with .*Adjacent"):
            check_method(make_corruption(), objective, sampler)
        check_method(make_corruption(), objective, build("sampler", "hierarchical"))
