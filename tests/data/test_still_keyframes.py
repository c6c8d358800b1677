"""Keyframes from stills: they change only known frames and only their values, and are drawn like all else."""

from dataclasses import replace

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.data.codec import LatentPreview, PatchDCT
from interp_refiner.data.still_keyframes import check_still_keyframes, with_still_keyframes
from interp_refiner.forward.scheduled_sampling import Proposals
from tests.factories import make_corruption, random_clip


class Doubling(PatchDCT.__bases__[0]):
    """A codec whose stills are told apart: twice the latents of video."""

    def __init__(self):
        super().__init__(1, 1, False, 4)

    def transform(self, video):
        return 2 * video

    def inverse(self, latents):
        return latents

    def decode(self, latents):
        return latents

    def stills_at(self, video, slots, still=None):
        return 2 * torch.stack([row[:, slot] for row, slot in zip(video, slots, strict=True)])


def corrupted_with(probability, *overrides, **fields):
    clip, corruption = replace(random_clip(**fields), step=10), make_corruption("+experiment=storyboard", *overrides)
    before = corruption(clip, "train")
    return before, with_still_keyframes(before, corruption, Doubling(), probability)


def test_every_given_keyframe_becomes_a_still_and_nothing_else_does():
    before, after = corrupted_with(1.0, batch=12)
    stills, values = 2 * before.clean.transpose(1, 2), after.values.transpose(1, 2)
    free = after.known & ~after.given
    assert (before.replaced & free).any()
    assert torch.equal(values[after.given], stills[after.given])
    assert torch.equal(values[free], before.values.transpose(1, 2)[free])
    assert torch.equal(after.x.transpose(1, 2)[after.given], stills[after.given])


def test_without_scheduled_sampling_every_keyframe_is_given():
    before, after = corrupted_with(1.0, "scheduled_sampling=never")
    stills = 2 * before.clean.transpose(1, 2)
    assert torch.equal(after.values.transpose(1, 2)[after.known], stills[after.known])
    assert torch.equal(after.clean, before.clean)
    assert all(torch.equal(getattr(after, n), getattr(before, n)) for n in ("known", "given", "level", "tau", "noise"))
    missing = after.interpolation.transpose(1, 2)[after.missing]
    torch.testing.assert_close(missing, 2 * before.interpolation.transpose(1, 2)[before.missing])


def test_the_draw_is_per_keyframe_and_belongs_to_key_and_epoch():
    before, after = corrupted_with(0.5, batch=40)
    chosen = (after.values != before.values).flatten(3).any(3).any(1)
    assert 0.3 < chosen[before.given].float().mean() < 0.7
    assert not chosen[~before.given].any()
    again = corrupted_with(0.5, batch=40)[1]
    assert torch.equal(again.x, after.x)
    other = corrupted_with(0.5, batch=40, epochs=[1] * 40)[1]
    assert not torch.equal(other.values, after.values)


def test_a_drawn_bridge_time_is_kept():
    before, after = corrupted_with(
        1.0, "corruption/bridge_time=uniform", "corruption.sigma=0.5", "scheduled_sampling=never", batch=8
    )
    assert before.tau.min() < 1
    a = (after.noise_level * 1.0)[:, None, :, None, None]
    tau = before.tau[:, None, None, None, None]
    expected = (1 - tau) * before.clean + tau * after.interpolation + a * before.noise
    torch.testing.assert_close(
        after.x.transpose(1, 2)[~after.given], expected.transpose(1, 2)[~after.given], atol=1e-5, rtol=1e-5
    )


def test_with_a_codec_without_a_gap_nothing_changes_but_rounding():
    codec = PatchDCT()
    clip = random_clip(batch=2, frames=6, space=(2, 4))
    video = 0.3 + 0.4 * torch.rand(2, 3, 6, 8, 16)  # so that decoding clamps nothing
    clip = replace(clip, latents=codec.encode(video))
    corruption = make_corruption("schedule.counts=[3]")
    before = corruption(clip, "train")
    after = with_still_keyframes(before, corruption, codec, 1.0)
    error = (after.values - codec.encode(codec.decode(before.values))).abs().max()
    assert error < 1e-5
    torch.testing.assert_close(after.x, before.x, atol=0.3, rtol=0)


def test_says_why_stills_cannot_be_made():
    with pytest.raises(BadValue, match=r"still_keyframes=0\.5: expected 0 if the codec is a preview.*codec=wan_vae"):
        check_still_keyframes(0.5, LatentPreview())
    with pytest.raises(BadValue, match=r"still_keyframes=1\.5: expected a probability"):
        check_still_keyframes(1.5, None)
    check_still_keyframes(0.5, PatchDCT())


def test_proposals_made_later_leave_stills_where_they_are():
    before, after = corrupted_with(1.0, "scheduled_sampling=self", "scheduled_sampling.probability.end=1.0", batch=6)
    corruption = make_corruption(
        "+experiment=storyboard", "scheduled_sampling=self", "scheduled_sampling.probability.end=1.0"
    )
    made = corruption.recorrupt(after, Proposals(torch.full_like(after.clean, 7.0), torch.ones_like(after.known)))
    values = made.values.transpose(1, 2)
    assert torch.equal(values[made.given], 2 * before.clean.transpose(1, 2)[made.given])
    assert (values[made.replaced] == 7).all()
    assert made.replaced.any()
