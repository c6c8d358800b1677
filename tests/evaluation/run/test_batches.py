"""Batches of an evaluation: keyframes are shuffled among the clips of each, so none has a single clip."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp_refiner.core import BadValue
from interp_refiner.evaluation.evaluator.keyframe_quality import KeyframeQuality
from interp_refiner.evaluation.run.run import clips_per_batch


@given(least=st.integers(2, 40), counts=st.lists(st.integers(2, 60), min_size=1, max_size=4))
def test_no_batch_has_a_single_clip_and_no_smaller_size_would_do(least, counts):
    size = clips_per_batch(least, counts)
    assert all(count % size != 1 for count in counts)
    assert all(any(count % smaller == 1 for count in counts) for smaller in range(least, size))


@pytest.mark.parametrize("counts", [[], [1], [8, 1]])
def test_a_single_clip_of_some_size_is_refused(counts):
    with pytest.raises(BadValue, match=rf"^clips={sum(counts)}: expected at least 2 held-out clips of every size$"):
        clips_per_batch(2, counts)


@pytest.mark.parametrize("setting", ["clips", "training_clips"])
def test_the_number_of_captions_that_is_too_small_is_named(setting):
    with pytest.raises(BadValue, match=rf"^{setting}=5: expected at least 8$"):
        KeyframeQuality(SimpleNamespace(size=(21, 16, 16)), None, **{setting: 5})


@pytest.mark.parametrize("setting", ["probe_steps", "batch_size"])
def test_no_steps_or_batches_are_refused(setting):
    with pytest.raises(BadValue, match=rf"^{setting}=0: expected at least 1$"):
        KeyframeQuality(SimpleNamespace(size=(21, 16, 16)), None, **{setting: 0})
