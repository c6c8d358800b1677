"""Batches of an evaluation: keyframes are shuffled among the clips of each, so none has a single clip."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp_refiner.core import BadValue
from interp_refiner.evaluation.run import clips_per_batch


@given(least=st.integers(2, 40), counts=st.lists(st.integers(2, 60), min_size=1, max_size=4))
def test_no_batch_has_a_single_clip_and_no_smaller_size_would_do(least, counts):
    size = clips_per_batch(least, counts)
    assert all(count % size != 1 for count in counts)
    assert all(any(count % smaller == 1 for count in counts) for smaller in range(least, size))


@pytest.mark.parametrize("counts", [[], [1], [8, 1]])
def test_a_single_clip_of_some_size_is_refused(counts):
    with pytest.raises(BadValue, match=rf"^clips={sum(counts)}: expected at least 2 held-out clips of every size$"):
        clips_per_batch(2, counts)
