"""Dynamic programming against brute force over all sets of keyframes."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from interp_refiner.core import BadValue, Draws
from interp_refiner.forward.schedule import Content, DynamicProgramming, log_likelihood
from interp_refiner.forward.schedule.segment_path import best_superset, path_cost

DRAWS = Draws(0, "train", ["a", "b", "c"])


class Costs(Content):
    """Nothing but costs."""

    def __init__(self, cost):
        self.cost = cost

    def segment_cost(self):
        return self.cost

    def coarse_clip(self, grid):
        raise AssertionError("dp looks at costs only")

    coarse_candidates = coarse_clip


def random_costs(num_frames, seed, batch=3):
    return torch.rand(batch, num_frames, num_frames, generator=torch.Generator().manual_seed(seed))


def total(cost, keyframes):
    return sum(cost[i, j].item() for i, j in pairwise(sorted(keyframes)))


def least_total(cost, forced, count):
    """The least cost over all sets of ``max(count, |forced|)`` keyframes that contain ``forced``."""
    free = [frame for frame in range(len(cost)) if frame not in forced]
    more = max(count - len(forced), 0)
    return min(total(cost, {*forced, *extra}) for extra in combinations(free, more))


def chosen(mask):
    return {frame for frame, kept in enumerate(mask.tolist()) if kept}


@forall(
    num_frames=st.integers(3, 9),
    seed=st.integers(0, 10**6),
    share=st.sampled_from([0.0, 0.2, 0.6]),
    data=st.data(),
)
@settings(max_examples=60)
def test_each_level_is_the_best_superset_of_the_next_coarser(num_frames, seed, share, data):
    counts = sorted(data.draw(st.sets(st.integers(2, num_frames - 1), min_size=1, max_size=4)), reverse=True)
    cost = random_costs(num_frames, seed)
    given = torch.rand(3, num_frames, generator=torch.Generator().manual_seed(seed + 1)) < share
    plan = DynamicProgramming(counts=counts).plan(given, DRAWS, Costs(cost))
    for sample in range(3):
        coarser = {0, num_frames - 1, *chosen(given[sample])}  # of the sparsest level: only the forced frames
        for level in range(len(counts), 0, -1):
            keyframes = chosen(plan.mask_at(torch.full((3,), level))[sample])
            assert keyframes >= coarser
            assert len(keyframes) == max(counts[level - 1], len(coarser))
            assert total(cost[sample], keyframes) == pytest.approx(
                least_total(cost[sample], coarser, counts[level - 1]), rel=1e-5
            )
            coarser = keyframes


def test_best_sets_are_not_nested_so_the_sparsest_is_solved_first():
    # 0-4 in two halves is cheapest, but with two inner keyframes 1 and 3 would be
    cost = torch.ones(1, 5, 5)
    cost[0, 0, 2] = cost[0, 2, 4] = 0.4
    cost[0, 0, 1] = cost[0, 1, 3] = cost[0, 3, 4] = 0.1
    none = torch.zeros(1, 5, dtype=torch.bool)
    alone = DynamicProgramming(counts=[4]).plan(none, DRAWS, Costs(cost)).kept_until
    nested = DynamicProgramming(counts=[4, 3]).plan(none, DRAWS, Costs(cost)).kept_until
    assert alone.tolist() == [[1, 1, 0, 1, 1]]
    assert nested[0, 2] == 2
    assert nested[0, [0, 4]].tolist() == [2, 2]


def test_a_batch_is_solved_as_its_samples_are():
    cost = random_costs(21, seed=3, batch=8)
    given = torch.rand(8, 21, generator=torch.Generator().manual_seed(4)) < 0.2
    schedule = DynamicProgramming()
    batch = schedule.plan(given, Draws(0, "train", list("abcdefgh")), Costs(cost)).kept_until
    alone = [
        schedule.plan(given[i : i + 1], Draws(0, "train", ["x"]), Costs(cost[i : i + 1])).kept_until for i in range(8)
    ]
    assert torch.equal(batch, torch.cat(alone))


def test_entries_that_are_no_segments_are_not_read():
    cost = random_costs(7, seed=5)
    forced = torch.zeros(3, 7, dtype=torch.bool)
    forced[:, [0, -1]] = True
    dirty = torch.where(torch.ones(7, 7).triu(1).bool(), cost, torch.nan)
    assert torch.equal(best_superset(dirty, forced, 4), best_superset(cost, forced, 4))


def test_costs_are_asked_for():
    with pytest.raises(
        BadValue, match=r"content=None: expected clips, because this schedule needs the cost of every seg"
    ):
        DynamicProgramming().plan(torch.zeros(3, 21, dtype=torch.bool), DRAWS)


def test_free_endpoints_are_refused():
    with pytest.raises(
        BadValue, match=r"endpoints=False: expected schedule\.endpoints=true: frames outside the outermost"
    ):
        DynamicProgramming(endpoints=False)


@pytest.mark.parametrize(("gap_ratio", "max_gap", "count"), [(1.1, 3, 4), (1.5, 4, 4), (1.25, 5, 3), (2.0, 8, 3)])
def test_no_gap_is_longer_than_the_cap_and_the_set_is_the_best_such_set(gap_ratio, max_gap, count):
    cost = random_costs(9, seed=max_gap) - 0.5  # learned costs may be negative
    plan = DynamicProgramming(counts=[count], gap_ratio=gap_ratio).plan(
        torch.zeros(3, 9, dtype=torch.bool), DRAWS, Costs(cost)
    )
    for sample in range(3):
        found = chosen(plan.mask_at(torch.ones(3, dtype=torch.long))[sample])
        sets = [{0, 8, *inner} for inner in combinations(range(1, 8), count - 2)]
        capped = [s for s in sets if max(b - a for a, b in pairwise(sorted(s))) <= max_gap]
        assert found in capped
        assert total(cost[sample], found) == pytest.approx(min(total(cost[sample], s) for s in capped), abs=1e-5)


def test_where_given_frames_take_all_places_the_cap_is_kept_as_far_as_it_can_be():
    given = torch.zeros(1, 21, dtype=torch.bool)
    given[0, [1, 2]] = True  # of 5 keyframes one is left for the 18 frames from 2 to 20
    plan = DynamicProgramming(counts=[5], gap_ratio=1.2).plan(
        given, Draws(0, "val", "a"), Costs(random_costs(21, 0, 1))
    )
    assert chosen(plan.mask_at(torch.tensor([1]))[0]) - {0, 1, 2, 20} <= set(range(8, 15))


@pytest.mark.parametrize("gap_ratio", [0.9, -1.0, torch.nan, torch.inf])
def test_a_cap_that_cannot_be_kept_is_refused(gap_ratio):
    with pytest.raises(BadValue, match=f"gap_ratio={gap_ratio}: expected a number >= 1, 1 for even gaps, or null"):
        DynamicProgramming(gap_ratio=gap_ratio)


@pytest.mark.parametrize("num_frames", [4, 5, 8, 16, 21, 33, 81])
def test_a_cap_goes_with_the_length_of_the_clip(num_frames):
    schedule = DynamicProgramming(k_min=min(4, num_frames - 1), num_levels=1, gap_ratio=1.0)
    sparsest = schedule.counts_for(num_frames)[-1]
    content = Costs(random_costs(num_frames, seed=0))
    plan = schedule.plan(torch.zeros(3, num_frames, dtype=torch.bool), DRAWS, content)
    known = plan.mask_at(torch.full((3,), plan.num_levels))
    largest = max(int(row.nonzero().flatten().diff().max()) for row in known)
    assert largest == -(-(num_frames - 1) // (sparsest - 1))  # as even as can be


@forall(num_frames=st.integers(3, 8), seed=st.integers(0, 10**6), data=st.data())
@settings(max_examples=15)
def test_probabilities_are_those_of_all_sets(num_frames, seed, data):
    count = data.draw(st.integers(2, num_frames))
    cost = 4 * random_costs(num_frames, seed, batch=1) - 2
    forced = {0, num_frames - 1, *data.draw(st.sets(st.integers(0, num_frames - 1), max_size=2))}
    free = [frame for frame in range(num_frames) if frame not in forced]
    sets = [{*forced, *extra} for extra in combinations(free, max(count - len(forced), 0))]
    masks = torch.tensor([[frame in s for frame in range(num_frames)] for s in sets])
    expected = torch.tensor([-total(cost[0], s) for s in sets]).log_softmax(0)
    each = cost.expand(len(sets), -1, -1)
    fixed = torch.tensor([[frame in forced for frame in range(num_frames)]]).expand(len(sets), -1)
    torch.testing.assert_close(log_likelihood(each, masks, fixed, count), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(path_cost(each, masks), torch.tensor([total(cost[0], s) for s in sets]))


def test_gradients_of_the_likelihood_are_finite_and_lower_the_cost_of_what_was_chosen():
    cost = random_costs(7, seed=2).requires_grad_()
    forced = torch.zeros(3, 7, dtype=torch.bool)
    forced[:, [0, 6]] = True
    picked = forced.clone()
    picked[:, 2] = True
    picked[2, 2] = False  # nothing to choose there
    forced[2, 3] = picked[2, 3] = True
    log_likelihood(cost, picked, forced, 3).sum().backward()
    assert cost.grad.isfinite().all()
    assert (cost.grad[:2, 0, 2] < 0).all()
    assert (cost.grad[:2, 0, 4] > 0).all()
    assert (cost.grad[2] == 0).all()


def test_costs_that_are_not_finite_are_avoided_and_leave_the_counts():
    cost, forced = random_costs(9, 0), torch.zeros(3, 9, dtype=torch.bool)
    forced[:, [0, 8]] = True
    cost[0, 4, :] = cost[0, :, 4] = torch.nan  # a frame that holds NaN
    cost[1] = torch.nan
    found = best_superset(cost, forced, 4)
    assert found.sum(1).tolist() == [4, 4, 4]
    assert not found[0, 4]
    assert torch.equal(found[2:], best_superset(cost[2:], forced[2:], 4))
    capped = DynamicProgramming(counts=[4], gap_ratio=1.1)
    plan = capped.plan(forced, DRAWS, Costs(cost))
    assert plan.mask_at(torch.ones(3, dtype=torch.long)).sum(1).tolist() == [4, 4, 4]


@pytest.mark.parametrize("scale", [3.0, 3e6, 3e12])
def test_the_likelihood_of_equal_costs_is_that_of_a_draw_however_large_they_are(scale):
    forced = torch.zeros(1, 9, dtype=torch.bool)
    forced[:, [0, 2, 8]] = True
    keyframes = forced.clone()
    keyframes[:, 5] = True
    cost = torch.full((1, 9, 9), scale, dtype=torch.float64)
    # 6 free frames, one of them chosen
    likelihood = log_likelihood(cost, keyframes, forced, 4)
    assert likelihood.item() == pytest.approx(-torch.tensor(6.0).log().item(), abs=1e-3)
