"""The table of gaps, against a loop over frames."""

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_refiner.core import neighbours
from interp_refiner.forward.interpolator.segments import segments


def gaps(known):
    """(left, right) of all neighbouring keyframes with missing frames between them."""
    keyframes = [t for t, is_known in enumerate(known) if is_known]
    return [(left, right) for left, right in pairwise(keyframes) if right - left > 1]


@given(st.integers(1, 24), st.integers(0, 10**6), st.floats(0, 1))
@settings(max_examples=200)
def test_every_gap_has_a_row_and_every_missing_frame_finds_its_own(num_frames, seed, density):
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(3, num_frames, generator=generator) < density
    known[torch.arange(3), torch.randint(num_frames, (3,), generator=generator)] = True
    table = segments(neighbours(known))
    for b, mask in enumerate(known.tolist()):
        expected = gaps(mask)
        rows = list(zip(table.left[b].tolist(), table.right[b].tolist(), strict=True))
        assert rows[: len(expected)] == expected
        assert all(left == right and mask[left] for left, right in rows[len(expected) :])
        for t in range(num_frames):
            around = [i for i, (left, right) in enumerate(expected) if left < t < right]
            assert table.inside[b, t] == bool(around)
            if around:
                left, right = expected[around[0]]
                assert table.of_frame[b, t] == around[0]
                assert table.alpha[b, t] == torch.tensor(t - left) / (right - left)


def test_the_bound_is_reached():
    every_other = torch.arange(21).remainder(2) == 0
    table = segments(neighbours(every_other.unsqueeze(0)))
    assert table.left.tolist() == [list(range(0, 20, 2))]
    assert table.right.tolist() == [list(range(2, 21, 2))]


def test_keyframes_and_rows_name_the_same_segments():
    values = torch.randn(2, 3, 9, 4, generator=torch.Generator().manual_seed(0))
    known = torch.zeros(2, 9, dtype=torch.bool)
    known[0, [0, 3, 4, 8]], known[1, [1, 6]] = True, True
    table = segments(neighbours(known))
    left, right = table.keyframes(torch.where(known.view(2, 1, 9, 1), values, torch.nan))
    row = table.row_of_frame.view(2, 9)
    for b, t, before, after in ((0, 1, 0, 3), (0, 2, 0, 3), (0, 6, 4, 8), (1, 4, 1, 6)):
        assert torch.equal(left[row[b, t]], values[b, :, before])
        assert torch.equal(right[row[b, t]], values[b, :, after])
    assert left.isfinite().all()
    assert right.isfinite().all()
