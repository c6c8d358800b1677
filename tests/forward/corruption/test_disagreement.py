"""Noise where the interpolator's hypotheses differ (docs/method.md, Corruption)."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from interp_refiner.core import BadValue, Draws, per_frame, take_frames
from interp_refiner.forward.corruption import Corruption, Disagreement, Drawn, Uniform
from interp_refiner.forward.interpolator import Linear
from interp_refiner.forward.schedule import Uniform as UniformSchedule
from interp_refiner.model.sampler import Bridge
from tests.factories import random_clip
from tests.forward.corruption.test_corruption import AlwaysShifted
from tests.three_laws import ThreeLaws

FLOOR = 0.05


def disagreement(**settings):
    noise = Disagreement(white=0.3, floor=FLOOR, temporal_correlation=0.5)
    return Corruption(UniformSchedule(k_min=4), ThreeLaws(), noise, **{"sigma": 0.7, **settings})


def test_the_scale_is_the_spread_of_the_hypotheses_over_neighbouring_positions():
    corrupted = disagreement()(random_clip(), "val")
    spread = (corrupted.hypotheses[:, 1:] - corrupted.interpolation.unsqueeze(1)).square().mean(1)
    around = torch.stack(
        [
            F.pad(spread, (1, 1, 1, 1, 0, 0), mode="replicate")[..., y : y + 4, x : x + 6]
            for y in range(3)
            for x in range(3)
        ]
    )
    expected = (around.mean(0) + FLOOR**2).sqrt()
    missing = corrupted.missing.nonzero(as_tuple=True)
    torch.testing.assert_close(*(g.transpose(1, 2)[missing] for g in (corrupted.local_scale, expected)))


def test_the_state_has_noise_of_that_scale():
    corruption = disagreement(drawn=Drawn(bridge_time=Uniform()))
    corrupted = corruption(random_clip(), "train")
    tau, eps = corrupted.tau.view(-1, 1, 1, 1, 1), corruption.noise.eps(corrupted.noise, corrupted)
    m = per_frame(corrupted.missing, eps).float()
    mixed = (1 - tau) * corrupted.clean + tau * (corrupted.interpolation + 0.7 * m * corrupted.local_scale * eps)
    expected = torch.where(per_frame(corrupted.given, eps), corrupted.values, mixed)
    torch.testing.assert_close(corrupted.x, expected)
    level = (tau * 0.7 * m * corrupted.local_scale).square().mean((1, 3, 4)).sqrt()
    torch.testing.assert_close(corrupted.noise_level, level)


def test_where_all_hypotheses_agree_the_floor_is_left():
    still = random_clip()
    still.latents = still.latents[:, :, :1].expand_as(still.latents).clone()
    corrupted = disagreement()(still, "val")
    scale = corrupted.local_scale.transpose(1, 2)
    torch.testing.assert_close(scale[corrupted.missing], torch.full_like(scale[corrupted.missing], FLOOR))


def test_keyframes_that_may_be_replaced_have_noise_in_latent_units():
    corruption = disagreement(keyframe_fraction=0.5, scheduled_sampling=AlwaysShifted())
    corrupted = corruption(random_clip(), "train")
    free = corrupted.known & ~corrupted.given
    assert free.any()
    amplitude = corrupted.amplitude.transpose(1, 2)
    torch.testing.assert_close(amplitude[free], torch.full_like(amplitude[free], 0.5 * 0.7))


def test_a_window_and_other_keyframes_have_their_own_scale():
    corruption = disagreement()
    corrupted = corruption(random_clip(), "val")
    assert torch.equal(corrupted.frames(3, 9).local_scale, corrupted.local_scale[:, :, 3:9])
    other = corruption.with_values(corrupted, 2 * corrupted.values).local_scale.square() - FLOOR**2
    missing = per_frame(corrupted.missing, other).expand_as(other)
    torch.testing.assert_close(other[missing], 4 * (corrupted.local_scale.square() - FLOOR**2)[missing])


def test_the_noise_lies_along_what_the_hypotheses_differ_by_but_for_its_white_part():
    """Without a white part, noise is a mixture of two differences: the residual of a fit by fields is 0."""
    corruption = disagreement()
    corruption.noise = Disagreement(white=0.0, floor=FLOOR)
    corrupted = corruption(random_clip(), "val")
    added = (corrupted.x - corrupted.interpolation).transpose(1, 2)[corrupted.missing]  # [n, c, h, w]
    offsets = corrupted.alternatives.offsets.permute(0, 3, 1, 2, 4, 5)[corrupted.missing]  # [n, 2, c, h, w]
    basis = offsets.permute(0, 3, 4, 2, 1).double()  # [n, h, w, c, 2]
    target = added.permute(0, 2, 3, 1).unsqueeze(-1).double()
    fitted = basis @ (torch.linalg.pinv(basis, rtol=1e-6) @ target)
    torch.testing.assert_close(fitted, target, atol=1e-4, rtol=1e-3)


def test_eps_has_unit_variance_relative_to_the_spread_at_each_position():
    corruption = disagreement()
    corrupted = corruption(random_clip(), "val")
    many = [corruption.fresh(Draws(0, f"stream {n}", corrupted.clip.keys), "eps", corrupted) for n in range(400)]
    variance = torch.stack(many).square().mean(0)
    offsets, g = corrupted.alternatives.offsets, corrupted.local_scale
    expected = (1 - 0.3**2) * offsets.square().mean(1) / g.square() + 0.3**2
    missing = per_frame(corrupted.missing, g).expand_as(g)
    torch.testing.assert_close(variance[missing], expected[missing], atol=0.1, rtol=0.4)
    assert (variance[missing] / expected[missing]).mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_bridge_of_an_oracle_returns_the_clean_clip(eta):
    corruption = disagreement()
    corrupted = corruption(random_clip(), "val")
    draws = Draws(0, "sample", corrupted.clip.keys)
    made = Bridge(steps=4, eta=eta)(lambda state: state.clean, corrupted, draws, corruption)
    torch.testing.assert_close(made, corrupted.clean, atol=1e-5, rtol=0)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_bridge_that_knows_nothing_keeps_no_noise(eta):
    """A residual of zero: every step scales what is left of the noise by the fall of tau."""
    corruption = disagreement()
    corrupted = corruption(random_clip(), "val")
    zero = replace(corrupted, clip=replace(corrupted.clip, latents=corrupted.interpolation))
    draws = Draws(0, "sample", corrupted.clip.keys)
    made = Bridge(steps=3, eta=eta)(lambda state: state.interpolation, zero, draws, corruption)
    torch.testing.assert_close(made, corrupted.interpolation, atol=1e-5, rtol=0)


@pytest.mark.parametrize("space", [(4, 6), ()])
def test_without_hypotheses_the_keyframes_around_a_frame_serve(space):
    corruption = disagreement()
    corruption.interpolator = Linear()
    corrupted = corruption(random_clip(space=space), "val")
    near, missing = corrupted.neighbours, corrupted.missing
    left, right = (take_frames(corrupted.values, side) for side in (near.left, near.right))
    spread = ((left - corrupted.interpolation) ** 2 + (right - corrupted.interpolation) ** 2) / 2
    if space:
        frames = F.pad(spread.transpose(1, 2).flatten(0, 1), (1, 1, 1, 1), mode="replicate")
        spread = F.avg_pool2d(frames, 3, 1).unflatten(0, (3, 21)).transpose(1, 2)
    g = (spread + FLOOR**2).sqrt()
    torch.testing.assert_close(*(scale.transpose(1, 2)[missing] for scale in (corrupted.local_scale, g)))
    assert corrupted.x.isfinite().all()


def test_settings_out_of_range_are_refused():
    with pytest.raises(BadValue, match=r"floor=0\.0: expected a finite number > 0"):
        Disagreement(floor=0.0)
    with pytest.raises(BadValue, match=r"white=1\.5: expected a share"):
        Disagreement(white=1.5)
