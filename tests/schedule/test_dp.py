"""Dynamic programming against brute force over all sets of keyframes."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from interp_refiner.core import BadValue, Draws
from interp_refiner.schedule import DynamicProgramming
from interp_refiner.schedule.dp import best_superset

DRAWS = Draws(0, "train", ["a", "b", "c"])


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
@settings(max_examples=60, deadline=None)
def test_each_level_is_the_best_superset_of_the_next_coarser(num_frames, seed, share, data):
    counts = sorted(data.draw(st.sets(st.integers(2, num_frames - 1), min_size=1, max_size=4)), reverse=True)
    cost = random_costs(num_frames, seed)
    given = torch.rand(3, num_frames, generator=torch.Generator().manual_seed(seed + 1)) < share
    plan = DynamicProgramming(counts=counts).plan(given, DRAWS, cost)
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
    alone = DynamicProgramming(counts=[4]).plan(none, DRAWS, cost).kept_until
    nested = DynamicProgramming(counts=[4, 3]).plan(none, DRAWS, cost).kept_until
    assert alone.tolist() == [[1, 1, 0, 1, 1]]
    assert nested[0, 2] == 2
    assert nested[0, [0, 4]].tolist() == [2, 2]


def test_a_batch_is_solved_as_its_samples_are():
    cost = random_costs(21, seed=3, batch=8)
    given = torch.rand(8, 21, generator=torch.Generator().manual_seed(4)) < 0.2
    schedule = DynamicProgramming()
    batch = schedule.plan(given, Draws(0, "train", list("abcdefgh")), cost).kept_until
    alone = [schedule.plan(given[i : i + 1], Draws(0, "train", ["x"]), cost[i : i + 1]).kept_until for i in range(8)]
    assert torch.equal(batch, torch.cat(alone))


def test_entries_that_are_no_segments_are_not_read():
    cost = random_costs(7, seed=5)
    forced = torch.zeros(3, 7, dtype=torch.bool)
    forced[:, [0, -1]] = True
    dirty = torch.where(torch.ones(7, 7).triu(1).bool(), cost, torch.nan)
    assert torch.equal(best_superset(dirty, forced, 4), best_superset(cost, forced, 4))


def test_a_cost_is_asked_for():
    assert DynamicProgramming.needs_cost
    with pytest.raises(BadValue, match=r"cost=None: expected \[b, t, t\].* for schedule DynamicProgramming"):
        DynamicProgramming().plan(torch.zeros(3, 21, dtype=torch.bool), DRAWS)


def test_free_endpoints_are_refused():
    with pytest.raises(BadValue, match="endpoints=False: expected true: frames outside the outermost keyframes"):
        DynamicProgramming(endpoints=False)
