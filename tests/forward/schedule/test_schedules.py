"""Known values of each schedule, and slow references."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given as forall
from hypothesis import strategies as st

from interp_refiner.core import BadValue, Draws
from interp_refiner.forward.schedule import Fixed, Random, Uniform
from interp_refiner.forward.schedule.splitting import split_gap


def draws(keys, epoch=0):
    return Draws(3, "train", keys, [epoch] * len(keys))


def keyframes(schedule, num_frames=21, given=(), level=None, keys="a", epoch=0):
    mask = torch.zeros(len(keys), num_frames, dtype=torch.bool)
    mask[:, list(given)] = True
    plan = schedule.plan(mask, draws(list(keys), epoch))
    level = plan.num_levels if level is None else level
    known = plan.mask_at(torch.full((len(keys),), level))
    return [row.nonzero().flatten().tolist() for row in known]


def test_uniform_is_round_linspace_at_the_sparsest_level():
    assert keyframes(Uniform()) == [[0, 7, 13, 20]]
    assert keyframes(Uniform(counts=[5])) == [[0, 5, 10, 15, 20]]
    assert keyframes(Uniform(counts=[3]), num_frames=6) == [[0, 2, 5]]  # 2.5 is rounded to even


def test_uniform_splits_the_largest_gap_leftmost_first():
    # 0 7 13 20: two gaps of 7, split at 3 and 16; then 7-13 at 10
    assert keyframes(Uniform(counts=[7, 6, 5, 4]), level=3) == [[0, 3, 7, 13, 20]]
    assert keyframes(Uniform(counts=[7, 6, 5, 4]), level=2) == [[0, 3, 7, 13, 16, 20]]
    assert keyframes(Uniform(counts=[7, 6, 5, 4]), level=1) == [[0, 3, 7, 10, 13, 16, 20]]


def test_uniform_with_given_frames_splits_from_there():
    assert keyframes(Uniform(), given=[2]) == [[0, 2, 11, 20]]
    assert keyframes(Uniform(counts=[6, 4]), given=[2, 3], level=1) == [[0, 2, 3, 11, 15, 20]]


def test_uniform_fills_open_ends_where_endpoints_are_free():
    # given 10 leaves gaps -1..10 and 10..21, both of 11
    assert keyframes(Uniform(endpoints=False, counts=[4, 3]), given=[10]) == [[4, 10, 15]]
    assert keyframes(Uniform(endpoints=False, counts=[4, 3]), given=[10], level=1) == [[4, 7, 10, 15]]


def greedy_split_gaps(known, split=lambda left, right: left + (right - left) // 2):
    """The definition: split the largest gap, leftmost on ties, one at a time."""
    num_frames = len(known)
    ends = [-1] * (not known[0]) + [f for f in range(num_frames) if known[f]] + [num_frames] * (not known[-1])
    gaps, order = {}, []
    while len(order) < num_frames - sum(known):
        lengths = [right - left for left, right in pairwise(ends)]
        widest = lengths.index(max(lengths))
        frame = split(ends[widest], ends[widest + 1])
        gaps[frame] = lengths[widest]
        order.append(frame)
        ends.insert(widest + 1, frame)
    return gaps, order


@forall(st.lists(st.booleans(), min_size=2, max_size=40).filter(any))
def test_splits_are_those_of_the_greedy_definition(known):
    gaps, order = greedy_split_gaps(known)
    found = split_gap(torch.tensor([known]))[0].tolist()
    assert {frame: found[frame] for frame in gaps} == gaps
    assert sorted(gaps, key=lambda frame: (-found[frame], frame)) == order


@forall(
    st.lists(st.booleans(), min_size=2, max_size=24).filter(any),
    st.integers(0, 10**6),
    st.sampled_from([0.3, 0.7, 1.0]),
)
def test_jittered_splits_are_those_of_the_greedy_definition(known, seed, jitter):
    noise = torch.rand(1, len(known) + 2, generator=torch.Generator().manual_seed(seed))

    def split(left, right):
        w = (noise[0, left + 1] + noise[0, right + 1]) % 1
        offset = int((right - left) * (0.5 + jitter * (w - 0.5)))
        return left + min(max(offset, 1), right - left - 1)

    gaps, _ = greedy_split_gaps(known, split)
    found = split_gap(torch.tensor([known]), jitter, noise)[0].tolist()
    assert {frame: found[frame] for frame in gaps} == gaps


def test_full_jitter_splits_anywhere_inside_the_gap():
    splits = keyframes(Uniform(counts=[3, 2], jitter=1.0), num_frames=10, level=1, keys=[str(i) for i in range(4000)])
    counts = torch.bincount(torch.tensor([frames[1] for frames in splits]), minlength=10)[1:9]
    # floor(9 w) clamped to 1..8: the first split position takes two cells of nine
    expected = torch.tensor([2, 1, 1, 1, 1, 1, 1, 1]) * 4000 / 9
    assert ((counts - expected).abs() < 5 * expected.sqrt()).all()


def test_jitter_depends_on_the_epoch_and_the_key():
    schedule = Uniform(jitter=0.5)
    keys = [str(i) for i in range(8)]
    first, second = keyframes(schedule, level=1, keys=keys), keyframes(schedule, level=1, keys=keys, epoch=1)
    assert first != second
    assert len({tuple(frames) for frames in first}) > 1


@pytest.mark.parametrize("jitter", [-0.1, 1.5])
def test_jitter_out_of_range_is_refused(jitter):
    with pytest.raises(BadValue, match=f"jitter={jitter}: expected a number from 0 to 1"):
        Uniform(jitter=jitter)


def test_random_draws_every_inner_frame_equally_often():
    kept = keyframes(Random(), keys=[str(i) for i in range(4000)])
    counts = torch.bincount(torch.tensor(kept).flatten(), minlength=21)
    assert counts[0] == counts[20] == 4000
    expected = 4000 * 2 / 19
    assert ((counts[1:20] - expected).abs() < 5 * expected**0.5).all()


def test_random_is_new_in_another_epoch():
    assert keyframes(Random(), keys="abc") != keyframes(Random(), keys="abc", epoch=1)
    assert keyframes(Random(), keys="abc") == keyframes(Random(), keys="abc")


def test_fixed_keeps_its_frames_and_splits_the_largest_gap():
    schedule = Fixed(frames=[0, 3, 12, 20], counts=[6, 5, 4])
    assert keyframes(schedule) == [[0, 3, 12, 20]]
    assert keyframes(schedule, level=2) == [[0, 3, 7, 12, 20]]
    assert keyframes(schedule, level=1) == [[0, 3, 7, 12, 16, 20]]


def test_fixed_lets_given_frames_replace_the_nearest_of_its_own():
    assert keyframes(Fixed(frames=[0, 3, 12, 20]), given=[4]) == [[0, 4, 12, 20]]
    assert keyframes(Fixed(frames=[0, 3, 12, 20]), given=[4, 11]) == [[0, 4, 11, 20]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": [0, 12, 3, 20]}, "expected at least two increasing frame numbers"),
        ({"frames": [0]}, "expected at least two increasing frame numbers"),
        ({"frames": [0, 3, 20], "counts": [9, 4]}, r"counts=\[9, 4\]: expected 3 at the last level"),
    ],
)
def test_fixed_refuses_lists_wrong_for_any_clip(arguments, message):
    with pytest.raises(BadValue, match=message):
        Fixed(**arguments)


@pytest.mark.parametrize("frames", [[0, 3, 12], [3, 12, 20], [0, 12, 21], [-1, 12, 20]])
def test_fixed_refuses_frames_outside_the_clip_and_missing_endpoints(frames):
    with pytest.raises(BadValue, match="expected first 0 and last 20, the endpoints of the clip"):
        keyframes(Fixed(frames=frames))
