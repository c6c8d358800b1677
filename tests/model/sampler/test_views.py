"""Mirrored views of a clip: the group average of clean estimates (docs/method.md, Samplers)."""

import pytest
import torch

from interp_refiner.core import BadValue, Draws, per_sample
from interp_refiner.data.codec import PatchDCT
from interp_refiner.forward.corruption import Uniform
from interp_refiner.model.sampler import Bridge, ClassifierFree, MirroredViews, OneJump, self_ensemble
from tests.factories import random_clip
from tests.helpers import build, group_members
from tests.three_laws import three_laws

CODEC = PatchDCT([0.1 * c for c in range(16)], [0.5 + 0.1 * c for c in range(16)])
CORRUPTION = three_laws(Uniform()).with_codec(CODEC)
REFLECTIONS = CORRUPTION.reflections
AXES = {reflection.axis: reflection for reflection in REFLECTIONS}


@pytest.fixture
def corrupted():
    return CORRUPTION(random_clip(channels=16, space=(4, 6)), "val")


def lopsided(state):
    """An estimate that is another one in a mirror, and depends on the prompt."""
    ramp = torch.linspace(-1, 1, state.x.shape[-1]) + torch.linspace(0, 2, state.x.shape[-2]).unsqueeze(1)
    text = per_sample(state.clip.text.mean((1, 2)), state.x)
    return state.interpolation + 0.3 * ramp + 0.2 * state.x.sin() + text


def test_an_estimate_without_preferred_direction_stays(corrupted):
    assert (lopsided(corrupted) - self_ensemble(lopsided, corrupted, REFLECTIONS)).abs().max() > 0.1
    interpolation = self_ensemble(lambda state: state.interpolation, corrupted, REFLECTIONS)
    torch.testing.assert_close(interpolation, corrupted.interpolation)


@pytest.mark.parametrize("axis", [-1, -2])
def test_the_ensemble_of_the_mirror_image_is_the_mirror_image_of_the_ensemble(corrupted, axis):
    reflection = AXES[axis]
    corrupted.clip.text = torch.zeros_like(corrupted.clip.text)
    seen = reflection(corrupted, torch.ones(len(corrupted.tau), dtype=torch.bool))
    mirrored = reflection.latents(self_ensemble(lopsided, corrupted, REFLECTIONS))
    torch.testing.assert_close(self_ensemble(lopsided, seen, REFLECTIONS), mirrored)


def test_it_is_the_mean_over_the_four_views(corrupted):
    everyone, views = torch.ones(len(corrupted.tau), dtype=torch.bool), []
    for axes in ([], [-1], [-2], [-1, -2]):
        seen = corrupted
        for axis in axes:
            seen = AXES[axis](seen, everyone)
        assert torch.equal(seen.clip.text, corrupted.clip.text * (not axes))  # a mirrored clip has no prompt
        estimate = lopsided(seen)
        for axis in axes:
            estimate = AXES[axis].latents(estimate)
        views.append(estimate)
    made = self_ensemble(lopsided, corrupted, REFLECTIONS)
    torch.testing.assert_close(made, torch.stack(views).mean(0))


@pytest.mark.parametrize("sampler", group_members("sampler"))
def test_every_sampler_averages_views_and_leaves_given_frames_bit_for_bit(sampler, corrupted):
    draws = Draws(0, "sample", corrupted.clip.keys)
    one, mirrored = (
        build("sampler", sampler, f"sampler/views={views}")(lopsided, corrupted, draws, CORRUPTION)
        for views in ("one", "mirrored")
    )
    assert (one - mirrored).abs().max() > 0.1
    given = corrupted.given.nonzero(as_tuple=True)
    bits = [v.transpose(1, 2)[given].contiguous().view(torch.int32) for v in (mirrored, corrupted.values)]
    assert torch.equal(*bits)


def test_another_number_of_steps_keeps_the_views():
    assert isinstance(Bridge(8, views=MirroredViews()).of_steps(2).views, MirroredViews)


def test_latents_without_mirror_operation_and_guidance_are_refused():
    with pytest.raises(
        BadValue, match=r"sampler\.views=mirrored: expected one, because the codec's latents have no mirror"
    ):
        OneJump(views=MirroredViews()).check(three_laws())
    with pytest.raises(BadValue, match=r"sampler\.views=mirrored: expected `one`: guidance needs a prompt"):
        OneJump(ClassifierFree(), MirroredViews())
