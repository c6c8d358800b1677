"""The cost of segments against a slow loop."""

import pytest
import torch

from interp_refiner.core import BadValue, Clip, Draws
from interp_refiner.forward.corruption import ClipContent, segment_cost
from interp_refiner.forward.interpolator import Linear, Slerp, Spline
from interp_refiner.forward.schedule import DynamicProgramming, Uniform
from tests.helpers import NoHostSync


def clip(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_cost(latents, interpolator):
    """Interpolates the whole clip from each pair of keyframes, and adds up the frames between them."""
    batch, _, num_frames = latents.shape[:3]
    cost = torch.zeros(batch, num_frames, num_frames)
    for j in range(num_frames):
        for i in range(j):
            known = torch.zeros(batch, num_frames, dtype=torch.bool)
            known[:, [i, j]] = True
            error = (interpolator(latents, known).latents - latents).square()[:, :, i + 1 : j]
            cost[:, i, j] = sum(error[:, :, k].flatten(1).mean(1) for k in range(j - i - 1))
    return cost


@pytest.mark.parametrize("interpolator", [Linear(), Slerp()], ids=["linear", "slerp"])
@pytest.mark.parametrize("shape", [(2, 3, 7, 4, 5), (2, 3, 7)], ids=["video", "path"])
def test_cost_is_that_of_the_slow_loop(interpolator, shape):
    latents = clip(*shape)
    torch.testing.assert_close(segment_cost(latents, interpolator), slow_cost(latents, interpolator))


def test_memory_bound_changes_nothing():
    latents = clip(2, 3, 9, 4, 4)
    torch.testing.assert_close(segment_cost(latents, Linear(), max_elements=200), segment_cost(latents, Linear()))


def test_costs_add_up_to_the_error_of_the_clip():
    latents, keyframes = clip(1, 4, 12, 3, 3, seed=1), [0, 3, 8, 11]
    known = torch.zeros(1, 12, dtype=torch.bool)
    known[:, keyframes] = True
    cost = segment_cost(latents, Linear())[0]
    error = (Linear()(latents, known).latents - latents).square()[0].mean(0).flatten(1).mean(1).sum()
    torch.testing.assert_close(cost[0, 3] + cost[3, 8] + cost[8, 11], error)


def test_half_precision_latents_cost_what_they_cost_in_float32():
    latents = clip(1, 4, 6, 3, 3).bfloat16()
    assert torch.equal(segment_cost(latents, Linear()), segment_cost(latents.float(), Linear()))


def test_splines_are_refused_by_name():
    with pytest.raises(BadValue, match="interpolator=spline: expected a segment-local one"):
        segment_cost(clip(1, 2, 5), Spline())


def test_keyframes_by_cost_interpolate_better_than_evenly_spaced_ones():
    # a path that stands still, then runs: keyframes belong where it turns
    t = torch.arange(21.0)
    path = torch.stack([(t - 15).clamp(min=0) ** 2, torch.sin(t).where(t > 14, 0.0)]).unsqueeze(0)
    draws, none = Draws(0, "val", ["a"]), torch.zeros(1, 21, dtype=torch.bool)
    errors = {}
    for schedule in (DynamicProgramming(), Uniform()):
        known = schedule.plan(none, draws, ClipContent(Clip(path, ["a"]), Linear())).mask_at(torch.tensor([4]))
        errors[type(schedule)] = (Linear()(path, known).latents - path).square().mean()
    assert errors[DynamicProgramming] < 0.5 * errors[Uniform]


def test_nothing_waits_for_the_device():
    latents, draws = clip(2, 3, 9, 4, 4), Draws(0, "train", ["a", "b"])
    with NoHostSync(), torch.no_grad():
        content = ClipContent(Clip(latents, ["a", "b"]), Linear())
        plan = DynamicProgramming().plan(torch.zeros(2, 9, dtype=torch.bool), draws, content)
    assert plan.num_levels == 4
