"""A corrupted clip carries the hypotheses, and they are computed again with every interpolation."""

from dataclasses import replace

import pytest
import torch

from interp_refiner.core import per_frame
from interp_refiner.forward.scheduled_sampling import Proposals
from tests.factories import random_clip
from tests.forward.corruption.test_corruption import AlwaysShifted, bits
from tests.helpers import NoHostSync
from tests.three_laws import ThreeLaws, clip_of_three_laws, three_laws


def assert_of_its_own_keyframes(corrupted):
    """Interpolation, hypotheses and masks are those of the values and keyframes that stand beside them."""
    made = ThreeLaws()(corrupted.values, corrupted.known)
    assert torch.equal(corrupted.interpolation, made.latents)
    assert torch.equal(corrupted.hypotheses, made.hypotheses)
    assert torch.equal(corrupted.present, made.present)


@pytest.mark.parametrize("space", [(4, 6), ()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_hypothesis_has_the_known_frames_bit_for_bit(space, dtype):
    corrupted = clip_of_three_laws(dtype=dtype, space=space)
    assert_of_its_own_keyframes(corrupted)
    assert corrupted.hypotheses.dtype == dtype
    where = corrupted.known.nonzero(as_tuple=True)
    for hypothesis in corrupted.hypotheses.unbind(1):
        assert torch.equal(*(bits(x.transpose(1, 2)[where]) for x in (hypothesis, corrupted.clean)))
    assert torch.equal(corrupted.hypotheses[:, 0], corrupted.interpolation)


def test_what_is_offered_beside_the_interpolation_are_differences_to_it():
    corrupted = clip_of_three_laws()
    offered = corrupted.alternatives
    torch.testing.assert_close(offered.offsets + corrupted.interpolation.unsqueeze(1), corrupted.hypotheses[:, 1:])
    assert torch.equal(offered.present, corrupted.present[:, 1:])
    assert replace(corrupted, hypotheses=None, present=None).alternatives is None


def test_another_level_other_values_and_proposals_make_them_anew():
    corruption = three_laws(keyframe_fraction=0.5, scheduled_sampling=AlwaysShifted())
    clip = random_clip(level=torch.tensor([4, 3, 2]))
    corrupted = corruption(clip, "train")
    assert_of_its_own_keyframes(corrupted)
    others = {
        "at_level": corruption.at_level(corrupted, corrupted.level - 1, torch.randn_like(clip.latents)),
        "with_values": corruption.with_values(corrupted, torch.randn_like(clip.latents)),
        "recorrupt": corruption.recorrupt(corrupted, Proposals(clip.latents + 2, torch.ones_like(corrupted.known))),
    }
    for name, other in others.items():
        assert_of_its_own_keyframes(other)
        assert not torch.equal(other.hypotheses, corrupted.hypotheses), name


def test_other_noise_another_state_and_a_window_keep_them():
    corruption, clip = three_laws(), random_clip()
    corrupted = corruption(clip, "train")
    moved = corrupted.at(corrupted.tau / 2, torch.randn_like(corrupted.x))
    for other in (corruption.renoised(corrupted, "train", "noise_1"), moved):
        assert torch.equal(other.hypotheses, corrupted.hypotheses)
        assert torch.equal(other.present, corrupted.present)
    cut = corrupted.frames(4, 12)
    assert torch.equal(cut.hypotheses, corrupted.hypotheses[:, :, :, 4:12])
    assert torch.equal(cut.present, corrupted.present[:, :, 4:12])
    assert torch.equal(cut.alternatives.offsets, corrupted.alternatives.offsets[:, :, :, 4:12])


def test_missing_frames_are_not_read_by_any_hypothesis_and_nothing_waits():
    corruption, clip = three_laws(), random_clip()
    known = corruption(clip, "val").known
    hidden = replace(clip, latents=torch.where(per_frame(known, clip.latents), clip.latents, torch.nan))
    with NoHostSync():
        seen, blind = corruption(clip, "val"), corruption(hidden, "val")
    assert torch.equal(seen.hypotheses, blind.hypotheses)
