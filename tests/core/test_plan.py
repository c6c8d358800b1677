import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp_refiner.core import KeyframePlan


@st.composite
def cases(draw):
    """Counts, a seed for the ranks, and the share of forced frames."""
    num_frames = draw(st.integers(3, 24))
    inner = draw(st.sets(st.integers(2, num_frames - 1), min_size=1, max_size=5))
    return [num_frames, *sorted(inner, reverse=True)], draw(st.integers(0, 10**6)), draw(st.sampled_from([0, 0.1, 0.5]))


def make_plan(counts, seed, share):
    key = torch.rand(3, counts[0], generator=torch.Generator().manual_seed(seed))
    forced = key < share
    rank = key.argsort(1).argsort(1)  # forced frames have the smallest keys, so the lowest ranks
    return KeyframePlan.from_ranks(rank, counts, forced, forced), forced


def at_level(plan, level):
    return plan.mask_at(torch.full((len(plan.given),), level))


@given(cases())
def test_plans_are_nested(case):
    plan, _ = make_plan(*case)
    for level in range(1, plan.num_levels + 1):
        assert not (at_level(plan, level) & ~at_level(plan, level - 1)).any()


@given(cases())
def test_counts_are_those_asked_for_or_the_forced_frames(case):
    counts, (plan, forced) = case[0], make_plan(*case)
    assert plan.num_levels == len(counts) - 1
    for level, count in enumerate(counts):
        assert at_level(plan, level).sum(1).tolist() == forced.sum(1).clamp(min=count).tolist()


@given(cases())
def test_forced_frames_are_keyframes_at_every_level(case):
    plan, forced = make_plan(*case)
    assert at_level(plan, plan.num_levels)[forced].all()
    assert torch.equal(plan.given, forced)


def test_kept_until_is_the_coarsest_level_that_keeps_a_frame():
    rank = torch.tensor([[0, 4, 2, 3, 1]])
    none = torch.zeros(1, 5, dtype=torch.bool)
    plan = KeyframePlan.from_ranks(rank, [5, 4, 3, 2], none, none)
    assert plan.kept_until.tolist() == [[3, 0, 2, 1, 3]]


def test_each_sample_has_its_own_level():
    plan = KeyframePlan(torch.tensor([[2, 0, 1, 2]]).expand(3, 4), torch.zeros(3, 4, dtype=torch.bool), 2)
    masks = plan.mask_at(torch.tensor([0, 1, 2]))
    assert masks.tolist() == [[True] * 4, [True, False, True, True], [True, False, False, True]]


def test_shapes_are_checked_in_tests():
    plan = KeyframePlan(torch.zeros(2, 4, dtype=torch.long), torch.zeros(2, 4, dtype=torch.bool), 1)
    with pytest.raises(Exception, match="level"):
        plan.mask_at(torch.tensor([[1], [1]]))
