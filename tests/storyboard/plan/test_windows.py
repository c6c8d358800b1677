"""Long clips: windows that share keyframes, without seams where they join."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_refiner.core import BadValue, Clip, Draws
from interp_refiner.model.sampler import Bridge, Hierarchical, OneJump
from interp_refiner.storyboard.plan.levels import Levels
from interp_refiner.storyboard.plan.windows import CrossFaded, Window, fade_weights, windows
from tests.factories import make_corruption

LEVELS = Levels([21, 14, 9, 6, 4])


def spans(parts):
    return [(part.start, part.stop - 1) for part in parts]


@pytest.mark.parametrize(
    ("keyframes", "frames", "expected"),
    [
        ([0, 20], 21, [(0, 20)]),
        (range(0, 41, 5), 41, [(0, 20), (15, 35), (20, 40)]),
        (range(30), 30, [(0, 20), (9, 29)]),
        (range(0, 60, 2), 60, [(0, 20), (18, 38), (36, 56), (40, 59)]),
        ([0, 20, 40], 41, [(0, 20), (20, 40)]),
        ([3, 18, 30], 35, [(0, 18), (18, 34)]),
        ([0, 10, 20, 38], 39, [(0, 20), (20, 38)]),
    ],
)
def test_windows_of_known_storyboards(keyframes, frames, expected):
    assert spans(windows(list(keyframes), frames, 21)) == expected


@settings(max_examples=60)
@given(st.integers(22, 120), st.sets(st.integers(0, 119), min_size=1))
def test_windows_cover_the_clip_overlap_and_meet_at_keyframes(frames, keys):
    keys = sorted({key for key in keys if key < frames} | {0})
    ends = sorted({*keys, frames - 1})
    if max(b - a for a, b in pairwise(ends)) > 20:
        with pytest.raises(BadValue, match="expected keyframes at most 20 latent frames apart"):
            windows(keys, frames, 21)
        return
    parts = windows(keys, frames, 21)
    assert (parts[0].start, parts[-1].stop) == (0, frames)
    assert all(part.length <= 21 for part in parts)
    for left, right in pairwise(parts):
        assert left.start < right.start < left.stop < right.stop
        assert right.start in keys
        assert left.stop - 1 in keys
        earlier = [key for key in keys if left.start < key < right.start and right.stop - key <= 21]
        assert not any(all(key >= part.stop - 1 for part in parts[: parts.index(left)]) for key in earlier)
    weights = fade_weights(parts, frames)
    torch.testing.assert_close(weights.sum(0), torch.ones(frames))
    for weight, part in zip(weights, parts, strict=True):
        outside = torch.ones(frames, dtype=torch.bool)
        outside[part.start : part.stop] = False
        assert not weight[outside].any()


@pytest.mark.parametrize(
    ("keys", "frames", "gap"), [([0, 30, 45], 46, (30, 0)), ([25], 40, (25, 0)), ([0, 5], 40, (34, 5))]
)
def test_gaps_longer_than_the_model_are_refused(keys, frames, gap):
    length, start = gap
    told = f"keyframes=a gap of {length} after latent frame {start}: expected"
    with pytest.raises(BadValue, match=f"{told} keyframes at most 20 latent frames apart"):
        windows(keys, frames, 21)


def long_clip(frames: int = 41, step: int = 5, proposals: tuple[int, ...] = ()):
    """A random clip, corrupted with a keyframe every few frames."""
    clean = torch.randn(1, 4, frames, 4, 6, generator=torch.Generator().manual_seed(3))
    known = torch.zeros(1, frames, dtype=torch.bool)
    known[:, ::step] = True
    given_ = known.clone()
    given_[:, list(proposals)] = False
    corruption = make_corruption("corruption.sigma=0.5")
    level = torch.tensor([LEVELS.level(int(known.sum()), frames)])
    draws = Draws(0, "sample", ["long"])
    corrupted = corruption.of_keyframes(Clip(clean, ["long"]), LEVELS.plan(known, given_), level, draws)
    return corrupted, corruption, draws


@pytest.mark.parametrize("sampler", [OneJump(), Bridge(4), Bridge(3, eta=0.5), Hierarchical()])
def test_joints_are_exact_for_an_oracle(sampler):
    corrupted, corruption, draws = long_clip(proposals=(15,))
    parts = windows(list(range(0, 41, 5)), 41, 21)
    seen = []

    def oracle_of(part):
        def oracle(window):
            seen.append((part, window.x.shape[2]))
            return corrupted.clean[:, :, part.start : part.stop]

        return oracle

    faded = CrossFaded([oracle_of(part) for part in parts], parts, LEVELS)
    sample = sampler(faded, corrupted, draws, corruption)
    torch.testing.assert_close(sample, corrupted.clean, atol=1e-5, rtol=0)
    assert {(part, part.length) for part in parts} == set(seen)
    assert all(differ is None or differ < 1e-6 for differ in faded.disagreement)


def test_the_fade_weighs_both_windows_and_reports_how_they_differ():
    corrupted, *_ = long_clip()
    parts = windows(list(range(0, 41, 5)), 41, 21)
    faded = CrossFaded([lambda c, n=n: torch.full_like(c.x, float(n)) for n in range(len(parts))], parts, LEVELS)
    made = faded(corrupted)[0, 0, :, 0, 0]
    torch.testing.assert_close(made[15:21], torch.linspace(0, 1, 6))
    torch.testing.assert_close(made[20:36], torch.linspace(1, 2, 16))
    assert [float(d) for d in faded.disagreement] == pytest.approx([1.0, 1.0])


def test_windows_stand_at_the_level_of_their_own_density():
    corrupted, *_ = long_clip(step=2)
    levels = []
    parts = [Window(0, 21), Window(20, 41)]
    CrossFaded([lambda c: levels.append(int(c.level[0])) or c.x] * 2, parts, LEVELS)(corrupted)
    assert levels == [2, 2]  # 11 of 21 frames: more than the 9 of level 2, fewer than the 14 of level 1


@pytest.mark.parametrize(("keyframes", "level"), [(21, 1), (14, 1), (13, 2), (9, 2), (6, 3), (5, 4), (4, 4), (1, 4)])
def test_the_level_is_the_finest_that_training_showed_so_few_keyframes_at(keyframes, level):
    assert LEVELS.level(keyframes, 21) == level


@pytest.mark.parametrize(("frames", "keys"), [(21, [0, 20]), (21, [4]), (9, [0, 3, 8]), (41, [0, 7, 30, 40])])
def test_the_plan_holds_exactly_the_storyboard_at_its_level_and_is_nested(frames, keys):
    known = torch.zeros(1, frames, dtype=torch.bool)
    known[0, keys] = True
    plan, level = LEVELS.plan(known, known), LEVELS.level(len(keys), frames)
    masks = [plan.mask_at(torch.tensor([s])) for s in range(LEVELS.sparsest + 1)]
    assert masks[0].all()
    for finer, coarser in pairwise(masks):
        assert (finer | ~coarser).all()
    for s in range(level, LEVELS.sparsest + 1):
        assert torch.equal(masks[s], known)


def test_noise_on_long_clips_is_that_of_the_clips_trained_on():
    corrupted, corruption, _ = long_clip()
    torch.testing.assert_close(corrupted.noise_profile[0, 2].square(), torch.tensor(4 * 2 * 3 / (5 * 40)))
    trained = corruption.noise.of_clips(21)(corrupted.neighbours)
    torch.testing.assert_close(trained[0, 2].square(), torch.tensor(4 * 2 * 3 / (5 * 20)))
    assert torch.equal(trained.gt(0), ~corrupted.known)


def test_known_frames_that_are_not_given_are_proposals_in_the_corruption():
    corrupted, *_ = long_clip(proposals=(10, 20))
    assert corrupted.known.sum() == 9
    assert [t for t in range(41) if corrupted.known[0, t] and not corrupted.given[0, t]] == [10, 20]
    assert torch.equal(corrupted.x[:, :, ::5], corrupted.clean[:, :, ::5])  # keyframe_fraction = 0
