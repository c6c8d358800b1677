"""Known values of linear, slerp and spline, slow references, and degenerate vectors."""

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicHermiteSpline

from interp_refiner.forward.interpolator import Linear, Slerp, Spline

BASIC = [Linear(), Slerp(), Spline()]
names = {"ids": lambda value: type(value).__name__}


def known_at(frames, num_frames, batch=1):
    known = torch.zeros(batch, num_frames, dtype=torch.bool)
    known[:, frames] = True
    return known


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_linear_is_the_weighted_mean_of_the_bracketing_keyframes():
    latents, frames = randn(1, 2, 7, 3, 4), [0, 4, 6]
    filled = Linear()(latents, known_at(frames, 7)).latents
    for t, left, right in ((1, 0, 4), (2, 0, 4), (3, 0, 4), (5, 4, 6)):
        a = (t - left) / (right - left)
        expected = (1 - a) * latents[:, :, left] + a * latents[:, :, right]
        torch.testing.assert_close(filled[:, :, t], expected)


@pytest.mark.parametrize("frames", [[0, 1, 5, 11], [0, 7, 11], [0, 11], [2, 3, 8, 9]])
def test_spline_is_scipys_hermite_spline_with_three_point_tangents(frames):
    latents = randn(1, 3, 12, seed=1).double()
    knots, z = np.array(frames, dtype=float), latents[0, :, frames].numpy()
    gaps, slopes = np.diff(knots), np.diff(z) / np.diff(knots)
    interior = (gaps[1:] * slopes[:, :-1] + gaps[:-1] * slopes[:, 1:]) / (gaps[1:] + gaps[:-1])
    tangents = np.concatenate([slopes[:, :1], interior, slopes[:, -1:]], axis=1)
    inside = np.arange(frames[0], frames[-1] + 1)
    expected = CubicHermiteSpline(knots, z, tangents, axis=1)(inside)
    filled = Spline()(latents, known_at(frames, 12)).latents[0, :, inside]
    np.testing.assert_allclose(filled.numpy(), expected, atol=1e-6)


def test_spline_is_exact_on_parabolas_between_inner_keyframes():
    t = torch.arange(14.0)
    parabola = (1 + 2 * t - 0.3 * t**2).view(1, 1, 14)
    frames = [0, 2, 7, 10, 13]
    filled = Spline()(parabola, known_at(frames, 14)).latents
    torch.testing.assert_close(filled[..., 2:11], parabola[..., 2:11], atol=1e-5, rtol=1e-5)
    assert (filled - parabola)[..., 1].abs() > 0.1  # at the ends the tangent is one-sided


def test_slerp_turns_at_constant_speed_and_changes_length_linearly():
    latents = torch.zeros(1, 3, 7)
    latents[0, :, 0] = torch.tensor([2.0, 0, 0])
    latents[0, :, 6] = torch.tensor([0, 0, 5.0])
    filled = Slerp()(latents, known_at([0, 6], 7)).latents[0]
    t = torch.arange(7) / 6
    expected = (2 + 3 * t) * torch.stack([torch.cos(t * torch.pi / 2), 0 * t, torch.sin(t * torch.pi / 2)])
    torch.testing.assert_close(filled, expected)


def test_slerp_works_at_every_position_by_itself():
    latents, known = randn(2, 16, 5, 3, 4, seed=2), known_at([0, 4], 5, batch=2)
    filled = Slerp()(latents, known).latents
    alone = Slerp()(latents[:, :, :, 1:2, 2:3], known).latents
    torch.testing.assert_close(filled[:, :, :, 1:2, 2:3], alone)
    norms = torch.linalg.vector_norm(filled, dim=1)
    torch.testing.assert_close(norms[:, 1], torch.lerp(norms[:, 0], norms[:, 4], 0.25))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([0.0, 0.0], [3.0, 4.0]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([1.0, 2.0], [-1.0, -2.0]),
        ([1.0, 2.0], [2.0, 4.0]),
        ([1e-30, 0.0], [0.0, 1.0]),
    ],
)
def test_slerp_takes_the_straight_line_where_no_arc_is_defined(left, right):
    values = torch.tensor([left, [torch.nan, torch.nan], right]).T.unsqueeze(0).requires_grad_()
    filled = Slerp()(values, known_at([0, 2], 3)).latents
    torch.testing.assert_close(filled[0, :, 1], (torch.tensor(left) + torch.tensor(right)) / 2)
    filled.sum().backward()
    assert values.grad.isfinite().all()


def test_slerp_and_linear_meet_where_the_arc_becomes_a_line():
    angle = torch.tensor([0.5e-3, 0.999e-3, 1.001e-3, 2e-3]).double()
    latents = torch.zeros(1, 2, 3, 4).double()
    latents[0, 0, 0] = 1
    latents[0, :, 2] = torch.stack([angle.cos(), angle.sin()])
    known = known_at([0, 2], 3)
    torch.testing.assert_close(Slerp()(latents, known).latents, Linear()(latents, known).latents, atol=1e-6, rtol=0)


@pytest.mark.parametrize("interpolator", BASIC, **names)
def test_gradients_are_right(interpolator):
    values = randn(2, 3, 6, 2).double().requires_grad_()
    known = known_at([1, 2, 5], 6, batch=2)
    assert torch.autograd.gradcheck(lambda v: interpolator(v, known).latents, values)


@pytest.mark.parametrize("interpolator", BASIC, **names)
def test_all_frames_known_and_a_single_frame(interpolator):
    latents = randn(2, 3, 4, 2)
    assert torch.equal(interpolator(latents, torch.ones(2, 4, dtype=torch.bool)).latents, latents)
    only = latents[:, :, :1]
    assert torch.equal(interpolator(only, torch.ones(2, 1, dtype=torch.bool)).latents, only)


@pytest.mark.parametrize("interpolator", BASIC, **names)
def test_input_is_left_alone(interpolator):
    latents = randn(2, 3, 6, 2)
    before = latents.clone()
    interpolator(latents, known_at([0, 3, 5], 6, batch=2))
    assert torch.equal(latents, before)
