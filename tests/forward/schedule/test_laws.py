"""The laws of every schedule (docs/method.md, Plan), over all members of the config group."""

import inspect

import pytest
import torch

from interp_refiner.core import Draws, derived_seed
from interp_refiner.forward.schedule import CheapestSegments, Content
from tests.helpers import NoHostSync, build, cuda_sync_is_an_error, group_config, group_members

MEMBERS = group_members("schedule")
NEEDED = {"learned": ["schedule.checkpoint=null"]}
T = 21


def draws(keys, epoch=0):
    return Draws(7, "train", keys, [epoch] * len(keys))


def random_given(batch, share=0.15, seed=0):
    given = torch.rand(batch, T, generator=torch.Generator().manual_seed(seed)) < share
    given[0] = False
    return given


class RandomContent(Content):
    """Random content that belongs to the sample's key, as that of a clip would."""

    def __init__(self, keys, num_frames=T, device="cpu"):
        generators = [torch.Generator().manual_seed(derived_seed(key)) for key in keys]
        self.cost = torch.stack([torch.rand(num_frames, num_frames, generator=g) for g in generators]).to(device)
        self.looks = torch.stack([torch.randn(16, 16, num_frames, generator=g) for g in generators]).to(device)

    def segment_cost(self):
        return self.cost

    def coarse_candidates(self, grid):
        assert grid**2 == self.looks.shape[2]
        return self.looks

    def coarse_clip(self, grid):
        raise AssertionError("by default no schedule sees the clip but through its costs")


def schedule_of(name, *overrides):
    return build("schedule", name, *NEEDED.get(name, []), *overrides)


def plan(schedule, given, keys=None):
    keys = keys if keys is not None else [f"clip{i}" for i in range(len(given))]
    return schedule.plan(given, draws(keys), RandomContent(keys))


def masks(plan):
    """[S + 1, b, t]"""
    batch = len(plan.given)
    return torch.stack([plan.mask_at(torch.full((batch,), s)) for s in range(plan.num_levels + 1)])


@pytest.fixture(params=MEMBERS)
def name(request):
    return request.param


def test_counts_are_those_asked_for(name):
    schedule = schedule_of(name)
    sets = masks(plan(schedule, torch.zeros(5, T, dtype=torch.bool)))
    assert sets.sum(-1).tolist() == [[count] * 5 for count in (21, 14, 9, 6, 4)]


def test_given_frames_count_towards_k(name):
    schedule = schedule_of(name)
    given = random_given(40, share=0.25)
    forced = given.clone()
    forced[:, [0, -1]] = True
    sets = masks(plan(schedule, given))
    assert torch.equal(sets.sum(-1), torch.stack([forced.sum(1).clamp(min=k) for k in (21, 14, 9, 6, 4)]))
    assert (forced.sum(1) > 4).any()
    assert sets[:, forced].all()


def test_plans_are_nested(name):
    sets = masks(plan(schedule_of(name), random_given(20)))
    assert not (sets[1:] & ~sets[:-1]).any()


def test_given_frames_are_kept_in_the_plan(name):
    given = random_given(20)
    assert torch.equal(plan(schedule_of(name), given).given, given)


def test_a_sample_is_planned_alike_in_any_batch(name):
    schedule = schedule_of(name)
    given = random_given(6)
    keys = [f"clip{i}" for i in range(6)]
    whole = plan(schedule, given, keys).kept_until
    order = [4, 0, 5]
    part = plan(schedule, given[order], [keys[i] for i in order]).kept_until
    assert torch.equal(part, whole[order])


def test_endpoints_are_free_only_beside_given_frames(name):
    if isinstance(schedule_of(name), CheapestSegments):
        pytest.skip("refuses endpoints=false: see test_dp.py")
    given = torch.zeros(2, T, dtype=torch.bool)
    given[1, [5, 9, 11, 14]] = True
    sets = masks(plan(schedule_of(name, "schedule.endpoints=false"), given))
    assert sets[-1, 0, [0, -1]].all()
    assert torch.equal(sets[-1, 1], given[1])


def test_the_smallest_clips_work(name):
    overrides = ["schedule.frames=[0,2]"] if name == "fixed" else ["schedule.k_min=2"]
    schedule = schedule_of(name, *overrides, "schedule.num_levels=1")
    given = torch.zeros(2, 3, dtype=torch.bool)
    result = schedule.plan(given, draws(["a", "b"]), RandomContent("ab", 3))
    assert result.kept_until.tolist() == [[1, 0, 1]] * 2


def test_nothing_waits_for_the_device(name):
    given, jitter = random_given(3), ["schedule.jitter=0.5"] if name == "uniform" else []
    schedule, content = schedule_of(name, *jitter), RandomContent("012")
    with NoHostSync():
        result = schedule.plan(given, draws(["0", "1", "2"]), content)
    assert result.num_levels == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nothing_waits_on_a_gpu_and_plans_are_the_same_there(name):
    keys, given = ["0", "1", "2"], random_given(3)
    schedule, expected = schedule_of(name), plan(schedule_of(name), given, keys)
    on_gpu = given.cuda(), draws(keys), RandomContent(keys, device="cuda")
    schedule.plan(*on_gpu)  # frozen weights move there once
    with cuda_sync_is_an_error():
        result = schedule.plan(*on_gpu)
    assert torch.equal(result.kept_until.cpu(), expected.kept_until)


def test_config_spells_out_every_argument(name):
    arguments = inspect.signature(type(schedule_of(name))).parameters
    assert set(group_config("schedule", name)) - {"_target_"} == set(arguments)
