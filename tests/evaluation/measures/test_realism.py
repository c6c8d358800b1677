"""Energies on missing frames: scipy's Laplacian, slow loops, known values."""

import math

import pytest
import torch
from scipy.ndimage import laplace
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.data.medium.soft import blurred
from interp_refiner.evaluation.evaluator.controls import nearest_keyframe_copy
from interp_refiner.evaluation.measures import (
    Realism,
    difference_energy,
    energies,
    laplacian_energy,
)
from tests.evaluation.measures import tables
from tests.evaluation.measures.moving import every, linear, moving_textures

STEP, T = 4, 13
QUANTITIES = ("high_frequency", "boundary_motion", "inside_motion", "flicker")


def measured(truth: Tensor, estimates: dict[str, Tensor], known: Tensor, batch_size: int = 100) -> dict[str, dict]:
    n = len(truth)
    whole = {"estimates": estimates, "clean": truth, "known": known}
    whole |= {"level": torch.full((n,), 2), "sample": torch.arange(n)}
    parts = [tables.rows(whole, slice(start, start + batch_size)) for start in range(0, n, batch_size)]
    (record,) = tables.records(Realism(), *parts)
    assert record["level"] == 2
    return record["values"]


def test_laplacian_equals_scipy():
    clips = moving_textures(2, t=3)
    found = laplacian_energy(clips)
    for i in range(2):
        for t in range(3):
            expected = sum((laplace(clips[i, c, t].double().numpy())[1:-1, 1:-1] ** 2).mean() for c in range(2)) / 2
            assert found[i, t].item() == pytest.approx(expected, rel=1e-5)


def test_laplacian_of_a_wave_and_of_a_ramp():
    y, x = torch.arange(30.0).view(30, 1), torch.arange(40.0)
    ky, kx = 0.7, 1.1
    wave = torch.exp(1j * (ky * y + kx * x))
    clip = torch.stack([wave.real, wave.imag]).view(1, 2, 1, 30, 40)  # cos and sin: energy 1/2 each, at every position
    expected = (4 - 2 * torch.cos(torch.tensor(ky)) - 2 * torch.cos(torch.tensor(kx))) ** 2 / 2
    assert laplacian_energy(clip).item() == pytest.approx(expected.item(), rel=1e-5)
    ramp = (3 + 2 * y - x).view(1, 1, 1, 30, 40)
    assert laplacian_energy(ramp).item() == pytest.approx(0, abs=1e-8)


def test_energies_equal_the_definition():
    g = torch.Generator().manual_seed(0)
    clips = torch.randn(6, 2, 9, 5, 4, generator=g)
    known = torch.rand(6, 9, generator=g) < 0.4
    found = energies(clips, known)
    for i in range(6):
        frames = {q: [] for q in QUANTITIES}
        for t in range(9):
            x = clips[i].double()
            if not known[i, t]:
                frames["high_frequency"].append(laplacian_energy(clips[i : i + 1])[0, t].item())
                if 0 < t < 8:
                    frames["flicker"].append((x[:, t + 1] - 2 * x[:, t] + x[:, t - 1]).square().mean().item())
            if t > 0:
                kind = {0: "inside_motion", 1: "boundary_motion"}.get(int(known[i, t]) + int(known[i, t - 1]))
                if kind:
                    frames[kind].append((x[:, t] - x[:, t - 1]).square().mean().item())
        for q, values in frames.items():
            expected = sum(values) / len(values) if values else 0.0
            assert found[q][i].item() == pytest.approx(expected, rel=1e-5), q


def test_known_values_of_controls():
    truth, known = moving_textures(60, t=T), every(STEP, 60, T)
    jitter = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0)) * ~known.view(60, 1, T, 1, 1)
    estimates = {
        "truth": truth,
        "linear": linear(truth, STEP),
        "blurred": blurred(truth, known),
        "copies": nearest_keyframe_copy(truth, known),
        "jittery": truth + 0.3 * jitter,
    }
    found = measured(truth, estimates, known)
    for q in QUANTITIES:
        assert found[f"{q}/truth"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    value = {name: figure["value"] for name, figure in found.items()}
    assert value["high_frequency/linear"] < 0.9
    assert value["boundary_motion/linear"] < 0.5
    assert value["inside_motion/linear"] < 0.5
    assert value["flicker/linear"] == pytest.approx(0, abs=1e-9)
    assert value["high_frequency/blurred"] < 0.7
    assert value["high_frequency/copies"] == pytest.approx(1, abs=0.15)
    assert min(value[f"{q}/jittery"] for q in QUANTITIES) > 1.05
    assert value["flicker/jittery"] > value["inside_motion/jittery"] > value["boundary_motion/jittery"]


def test_linear_interpolation_moves_alike_at_boundaries_and_inside():
    truth, known = moving_textures(10, t=T), every(STEP, 10, T)
    step = (truth[:, :, STEP::STEP] - truth[:, :, :-1:STEP]) / STEP
    found = energies(linear(truth, STEP), known)
    for q in ("boundary_motion", "inside_motion"):
        assert torch.allclose(found[q], step.square().mean((1, 2, 3, 4)), rtol=1e-4)


def test_copies_jump_inside_gaps_and_stand_still_at_boundaries():
    truth, known = moving_textures(10, t=T), every(STEP, 10, T)
    found = energies(nearest_keyframe_copy(truth, known), known)
    jump = (truth[:, :, STEP::STEP] - truth[:, :, :-1:STEP]).square().mean((1, 2, 3, 4))
    assert (found["boundary_motion"] == 0).all()
    assert torch.allclose(found["inside_motion"], jump / 2, rtol=1e-4)  # one of the two steps inside each gap


def test_differences_of_polynomials():
    t = torch.arange(7.0).view(1, 1, 7)
    assert difference_energy(3 * t).tolist() == [[9.0] * 6]
    assert difference_energy(3 * t, order=2).tolist() == [[0.0] * 5]
    assert difference_energy(t**2, order=2).tolist() == [[4.0] * 5]


def test_scales_with_the_square_and_ignores_the_level():
    truth, known = moving_textures(10, t=T), every(STEP, 10, T)
    found = measured(truth, {"faint": 0.5 * truth + 3}, known)
    for q in QUANTITIES:
        assert found[f"{q}/faint"]["value"] == pytest.approx(0.25, rel=1e-3)


def test_is_the_same_in_any_batches():
    truth, known = moving_textures(10, t=T), every(STEP, 10, T)
    estimates = {"linear": linear(truth, STEP)}
    assert measured(truth, estimates, known, batch_size=3) == measured(truth, estimates, known)


def test_what_the_truth_does_not_have_is_no_figure():
    still = moving_textures(4, t=T)[:, :, :1].expand(-1, -1, T, -1, -1).contiguous()
    found = measured(still, {"linear": still}, every(STEP, 4, T))
    assert found["high_frequency/linear"]["value"] == 1.0
    assert all(math.isnan(found[f"{q}/linear"]["value"]) for q in ("boundary_motion", "inside_motion", "flicker"))
    moving = moving_textures(4, t=T)
    dense = measured(moving, {"linear": linear(moving, 2)}, every(2, 4, T))
    assert math.isnan(dense["inside_motion/linear"]["value"])  # gaps of 2 have no step between missing frames
    assert 0 < dense["boundary_motion/linear"]["value"] < 1


def test_refuses_bad_input():
    truth, known = moving_textures(2, t=T), every(STEP, 2, T)
    with pytest.raises(BadValue, match="clips=2x16 positions: expected at least 3x3"):
        energies(truth[:, :, :, :2], known)
