import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp_refiner.core import BadValue
from interp_refiner.forward.schedule import Random, explicit_counts, keyframe_counts


@pytest.mark.parametrize(
    ("num_frames", "k_min", "num_levels", "law", "counts"),
    [
        (21, 4, 4, "geometric", [21, 14, 9, 6, 4]),
        (128, 8, 8, "geometric", [128, 91, 64, 45, 32, 23, 16, 11, 8]),
        (21, 4, 4, "linear", [21, 17, 12, 8, 4]),
        (64, 8, 3, "linear", [64, 45, 27, 8]),
        (64, 8, 3, "doubling", [64, 32, 16, 8]),
        (100, 8, 3, "doubling", [100, 32, 16, 8]),
        (21, 2, 1, "doubling", [21, 2]),
    ],
)
def test_known_counts(num_frames, k_min, num_levels, law, counts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert keyframe_counts(num_frames, k_min, num_levels, law) == counts


def test_doubling_beyond_the_clip_has_fewer_levels():
    with pytest.warns(UserWarning, match=r"21 frames allow 3 doubling levels down to k_min=4, not num_levels=4"):
        assert keyframe_counts(21, 4, 4, "doubling") == [21, 16, 8, 4]


@pytest.mark.parametrize("law", ["geometric", "linear"])
def test_repeated_counts_are_dropped(law):
    with pytest.warns(UserWarning, match=f"4 frames allow 2 {law} levels"):
        assert keyframe_counts(4, 2, 9, law) == [4, 3, 2]


@given(
    num_frames=st.integers(3, 300),
    k_min=st.integers(2, 300),
    num_levels=st.integers(1, 12),
    law=st.sampled_from(["geometric", "linear", "doubling"]),
)
def test_counts_fall_strictly_from_all_frames_to_k_min(num_frames, k_min, num_levels, law):
    k_min = min(k_min, num_frames - 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        counts = keyframe_counts(num_frames, k_min, num_levels, law)
    assert counts[0] == num_frames
    assert counts[-1] == k_min
    assert counts == sorted(set(counts), reverse=True)
    assert bool(caught) == (len(counts) - 1 < num_levels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((21, 1, 4, "linear"), "k_min=1: expected at least 2"),
        ((21, 22, 4, "linear"), "k_min=22: expected below 21, the frames of a clip: no frame would be missing"),
        ((21, 21, 4, "geometric"), "k_min=21: expected below 21, the frames of a clip: no frame would be missing"),
        ((2, 2, 4, "doubling"), "k_min=2: expected below 2, the frames of a clip: no frame would be missing"),
        (
            (1, 2, 4, "linear"),
            "num_frames=1: expected at least 2: these clips are pictures (prepare encode: cut.size or cut.buckets)",
        ),
        ((21, 4, 0, "linear"), "num_levels=0: expected at least 1"),
    ],
)
def test_impossible_counts_are_refused(arguments, message):
    with pytest.raises(BadValue) as error:
        keyframe_counts(*arguments)
    assert str(error.value) == message


def test_explicit_counts_start_at_level_1_or_at_level_0():
    assert explicit_counts(21, [14, 9, 6, 4]) == [21, 14, 9, 6, 4]
    assert explicit_counts(21, [21, 14, 9, 6, 4]) == [21, 14, 9, 6, 4]
    assert Random(counts=[8, 5]).counts_for(21) == [21, 8, 5]
    assert len(Random(counts=[8, 5]).counts_for(21)) == 3


@pytest.mark.parametrize("counts", [[], [9, 9], [4, 6], [4, 1], [4, 2, 0]])
def test_counts_that_do_not_fall_to_2_are_refused_before_any_clip(counts):
    with pytest.raises(BadValue, match="expected strictly decreasing numbers of keyframes, at least 2"):
        Random(counts=counts)


@pytest.mark.parametrize("counts", [[21], [22, 4]])
def test_explicit_counts_beyond_the_clip_are_refused(counts):
    with pytest.raises(BadValue, match="below 21, the frames of a clip"):
        Random(counts=counts).counts_for(21)


@pytest.mark.parametrize(("arguments", "message"), [({"k_min": 1}, "k_min=1"), ({"num_levels": 0}, "num_levels=0")])
def test_settings_wrong_for_any_clip_are_refused_when_built(arguments, message):
    with pytest.raises(BadValue, match=message):
        Random(**arguments)


def test_a_level_is_not_invented_where_every_frame_is_a_keyframe():
    with pytest.raises(BadValue, match="k_min=4: expected below 4, the frames of a clip"):
        Random(k_min=4).counts_for(4)
