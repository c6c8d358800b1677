"""A clip whose keyframes have been moved."""

from dataclasses import replace

import pytest
import torch

from interp_refiner.storyboard import with_keyframes_at
from tests.factories import corrupted_clip


@pytest.mark.parametrize("frames", [[0, 20], [3, 9, 14], [0, 5, 1, 20, 5], list(range(21))])
def test_exactly_the_frames_asked_for_are_given_and_kept(frames):
    corrupted, corruption, _ = corrupted_clip("corruption=gauss", "corruption.sigma=0.5")
    moved = with_keyframes_at(corrupted, corruption, frames)
    assert moved.clip.keys == corrupted.clip.keys[:1]
    assert moved.known[0].nonzero().flatten().tolist() == sorted(set(frames))
    assert torch.equal(moved.given, moved.known)
    kept = moved.known[0]
    for clip in (moved.x, moved.interpolation):
        assert torch.equal(clip[0, :, kept], corrupted.clean[0, :, kept])
    assert kept.all() or not torch.allclose(moved.x[0, :, ~kept], corrupted.clean[0, :, ~kept])


def test_fewer_keyframes_mean_a_sparser_level():
    corrupted, corruption, _ = corrupted_clip()
    levels = [int(with_keyframes_at(corrupted, corruption, range(0, 21, step)).level) for step in (1, 2, 4, 10)]
    assert levels == sorted(levels)
    assert levels[0] == 1
    assert levels[-1] == corrupted.plan.num_levels


def test_missing_frames_are_never_read():
    corrupted, corruption, _ = corrupted_clip()
    frames = [0, 6, 20]
    hidden = corrupted.clip.latents.clone()
    hidden[:, :, [t for t in range(21) if t not in frames]] = torch.nan
    blind = replace(corrupted, clip=replace(corrupted.clip, latents=hidden))
    for name in ("x", "interpolation"):
        seen, unseen = (getattr(with_keyframes_at(c, corruption, frames), name) for c in (corrupted, blind))
        assert torch.equal(seen, unseen)
