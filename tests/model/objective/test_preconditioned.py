"""The bridge in units of the residual: the place of states on the arc, and the parts of an estimate."""

import math
from dataclasses import replace

import pytest
import torch

from interp_refiner.core import BadValue, per_frame, per_sample
from interp_refiner.model.objective import Preconditioned
from tests.factories import corrupted_clip, make_objective, spec_of
from tests.helpers import build

BRIDGE = ["corruption/bridge_time=uniform", "corruption.sigma=0.7"]


@pytest.mark.parametrize(
    ("mode", "space"), [("dist", (4, 6)), ("dist", ()), ("disagreement", (4, 6))], ids=["video", "path", "local scale"]
)
def test_a_state_on_the_arc_is_the_mix_of_residual_and_noise(mode, space):
    corrupted, corruption, _ = corrupted_clip(f"corruption={mode}", *BRIDGE, stream="train", space=space, batch=6)
    arc = Preconditioned(spec_of(), 4, variance=2.0).arc
    on = arc(corrupted)
    missing = per_frame(corrupted.missing, corrupted.x).expand_as(corrupted.x)
    residual = (corrupted.clean - corrupted.interpolation) / on.deviation
    mix = on.angle.cos() * residual + on.angle.sin() * corruption.noise.eps(corrupted.noise, corrupted)
    torch.testing.assert_close(on.point[missing], mix[missing], atol=1e-4, rtol=1e-4)
    signal = ((1 - per_sample(corrupted.tau, corrupted.x)) * on.deviation).detach().expand_as(missing)[missing]
    noise = (per_sample(corrupted.tau, corrupted.x) * corrupted.amplitude).expand_as(missing)[missing]
    expected = torch.tensor([math.atan2(n, s) for n, s in zip(noise, signal, strict=True)])
    torch.testing.assert_close(on.angle.expand_as(missing)[missing], expected)


def test_the_deviation_falls_with_confidence_and_rises_with_the_channels_variance():
    corrupted, _, _ = corrupted_clip(batch=2)
    arc = Preconditioned(spec_of(), 4, variance=3.0).arc
    confidence = torch.rand(2, 21, 4, 6)
    corrupted = replace(corrupted, confidence=confidence)
    with torch.no_grad():
        arc.log_variance.copy_(torch.tensor([0.0, 0.1, -0.1, 0.2]))
    channel = 3.0 * torch.tensor([1.0, math.e, 1 / math.e, math.e**2]).view(1, -1, 1, 1, 1)
    expected = channel * corrupted.noise_profile.square().view(2, 1, 21, 1, 1) * (1 - confidence).unsqueeze(1)
    torch.testing.assert_close(arc.deviation(corrupted).square(), expected + 1e-6)


def test_with_a_local_scale_the_deviation_is_a_share_of_it():
    corrupted, _, _ = corrupted_clip("corruption=disagreement")
    deviation = Preconditioned(spec_of(), 4, variance=0.25).arc.deviation(corrupted)
    expected = 0.5 * corrupted.local_scale * per_frame(corrupted.noise_profile, corrupted.x)
    torch.testing.assert_close(deviation.square(), expected.square() + 1e-6)


def test_one_jump_ignores_the_noise_and_a_nearly_clean_state_ignores_the_network():
    corrupted, _, _ = corrupted_clip("corruption.sigma=0.7")
    objective = Preconditioned(spec_of(), 4)
    zero = torch.zeros_like(corrupted.x)
    torch.testing.assert_close(objective.clean_estimate(zero, corrupted), corrupted.interpolation, atol=1e-5, rtol=0)
    nearly = corrupted.at(torch.full((3,), 1e-5), torch.lerp(corrupted.clean, corrupted.x, 1e-5))
    estimate = corrupted.keep_given(objective.clean_estimate(torch.randn_like(zero), nearly))
    torch.testing.assert_close(estimate, nearly.clean, atol=1e-3, rtol=0)


def test_of_a_gaussian_residual_the_estimate_at_zero_output_is_the_posterior_mean():
    """u ~ N(0, 1): E[u | x] = cos(phi) point, the known value of linear-Gaussian regression."""
    generator = torch.Generator().manual_seed(1)
    corrupted, _, _ = corrupted_clip(*BRIDGE, batch=3, space=(64, 64))
    objective = Preconditioned(spec_of(), 4, variance=2.0)
    sd = objective.arc.deviation(corrupted).detach().expand_as(corrupted.x)
    residual = sd * torch.randn(sd.shape, generator=generator)
    clean = corrupted.interpolation + residual
    corrupted = replace(corrupted, clip=replace(corrupted.clip, latents=clean))
    state = corrupted.at(torch.full((3,), 0.5), torch.lerp(clean, corrupted.x, 0.5))
    estimate = objective.clean_estimate(torch.zeros_like(clean), state)
    frame = int(corrupted.missing[0].nonzero()[0])
    y, u = (state.x - state.interpolation)[0, 0, frame], residual[0, 0, frame]
    slope = (y * u).sum() / y.square().sum()  # least squares of what is asked from what is seen
    own = ((estimate - state.interpolation)[0, 0, frame] / y).median()
    torch.testing.assert_close(own, slope, atol=0.03, rtol=0)


def test_given_frames_and_gradients_are_finite():
    corrupted, _, _ = corrupted_clip(*BRIDGE, stream="train", batch=4)
    objective = Preconditioned(spec_of(), 4)
    output = torch.randn_like(corrupted.x, requires_grad=True)
    objective(output, corrupted).total.backward()
    assert output.grad.isfinite().all()
    assert objective.arc.log_variance.grad.isfinite().all()
    assert (objective.arc.log_variance.grad != 0).all()


@pytest.mark.parametrize("name", ["preconditioned", "energy_score"])
def test_a_corruption_that_leaves_free_frames_without_noise_is_refused(name):
    objective = make_objective(name)
    objective.check(0.3, keyframes_replaced=False, keyframe_fraction=0.0)
    with pytest.raises(BadValue, match=r"corruption\.sigma=0.*objective=" + name):
        objective.check(0.0, keyframes_replaced=False, keyframe_fraction=0.0)
    with pytest.raises(BadValue, match=r"keyframe_fraction=0.*scheduled sampling"):
        objective.check(0.3, keyframes_replaced=True, keyframe_fraction=0.0)


def test_variances_that_are_not_positive_are_refused():
    with pytest.raises(BadValue, match="variance=0"):
        build("objective", "preconditioned", "objective.variance=0.0", spec=spec_of(), num_levels=4)
