"""Mirrored training clips (docs/method.md, Conditioning)."""

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.data import Mirror
from interp_refiner.data.codec import PatchDCT
from interp_refiner.forward.corruption import Disagreement, Uniform
from tests.factories import random_clip
from tests.three_laws import three_laws

MEAN, STD = torch.randn(16, generator=torch.Generator().manual_seed(0)), torch.linspace(0.2, 2.0, 16)
CODEC = PatchDCT(MEAN.tolist(), STD.tolist())
REFLECTIONS = {reflection.axis: reflection for reflection in CODEC.reflections()}


def clip_of_video(seed=0):
    video = torch.rand(3, 3, 21, 16, 24, generator=torch.Generator().manual_seed(seed))
    clip = random_clip(channels=16)
    clip.latents = CODEC.encode(video)
    return clip


@pytest.mark.parametrize("axis", [-1, -2])
def test_latents_of_a_mirrored_video_are_the_mirrored_latents(axis):
    clip = clip_of_video()
    corrupted = three_laws(Uniform())(clip, "train")
    chosen = torch.tensor([True, False, True])
    made = REFLECTIONS[axis](corrupted, chosen)
    expected = CODEC.encode(CODEC.inverse(CODEC.raw(clip.latents)).flip(axis))
    torch.testing.assert_close(made.clean[chosen], expected[chosen])
    assert torch.equal(made.clean[~chosen], clip.latents[~chosen])


@pytest.mark.parametrize("axis", [-1, -2])
def test_all_that_is_made_of_a_clip_is_mirrored_with_it(axis):
    """The interpolation of mirrored keyframes is the mirrored interpolation, and the state follows from its parts."""
    corruption = three_laws(Uniform())
    corruption.noise = Disagreement(temporal_correlation=0.5)
    corrupted = corruption(clip_of_video(), "train")
    made = REFLECTIONS[axis](corrupted, torch.ones(3, dtype=torch.bool))
    again = corruption.interpolator(made.values, made.known).latents
    torch.testing.assert_close(made.interpolation, again)
    tau = made.tau.view(-1, 1, 1, 1, 1)
    noised = made.interpolation + made.amplitude * corruption.noise.eps(made.noise, made)
    x = torch.where(made.given.view(3, 1, -1, 1, 1), made.values, (1 - tau) * made.clean + tau * noised)
    torch.testing.assert_close(made.x, x)
    there_and_back = REFLECTIONS[axis](made, torch.ones(3, dtype=torch.bool))
    for name, value in vars(corrupted).items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(getattr(there_and_back, name), value, msg=name)


def test_the_draw_is_of_the_sample_and_a_mirrored_clip_has_no_prompt():
    clip = clip_of_video()
    clip.epochs, clip.text = [0, 0, 1], torch.randn(3, 4, 5)
    corrupted = three_laws()(clip, "train")
    made = Mirror(0.5, seed=1)(corrupted, CODEC.reflections())
    changed = (made.clean != clip.latents).flatten(1).any(1)
    assert torch.equal(changed, (made.clip.text == 0).flatten(1).all(1))
    assert 0 < changed.sum() < 3
    alone = Mirror(0.5, seed=1)(three_laws()(clip.select([1]), "train"), CODEC.reflections())
    assert torch.equal(alone.clean[0], made.clean[1])
    assert Mirror(0.0)(corrupted, CODEC.reflections()) is corrupted


def test_latents_without_a_mirror_image_are_refused():
    with pytest.raises(BadValue, match=r"data\.mirror\.probability=0\.5: expected 0 with codec=None"):
        Mirror(0.5).check(None)
    Mirror(0.0).check(None)
    with pytest.raises(BadValue, match="probability=2"):
        Mirror(2.0)
