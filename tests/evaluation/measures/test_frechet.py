"""Frechet distance: scipy's matrix root, known Gaussians, and the right ranking of clips."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.data.medium.soft import blurred
from interp_refiner.evaluation.evaluator.controls import nearest_keyframe_copy
from interp_refiner.evaluation.measures import (
    FLOOR,
    FrechetDistance,
    RandomConvFeatures,
    frechet_distance,
)
from interp_refiner.evaluation.measures.frechet import jackknife_interval
from tests.evaluation.measures.moving import every, linear, moving_textures
from tests.evaluation.measures.tables import grouped


def gaussian(d: int, seed: int, rank: int | None = None) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(d, rank or 2 * d, generator=g, dtype=torch.float64)
    return torch.randn(d, generator=g, dtype=torch.float64), root @ root.T / d


@pytest.mark.parametrize(("rank_p", "rank_q"), [(None, None), (None, 3), (3, 2)])
def test_equals_scipy(rank_p, rank_q):
    (mean_p, cov_p), (mean_q, cov_q) = gaussian(7, 0, rank_p), gaussian(7, 1, rank_q)
    cross = np.trace(sqrtm((cov_p @ cov_q).numpy()).real)
    expected = (mean_p - mean_q).square().sum() + cov_p.trace() + cov_q.trace() - 2 * cross
    # scipy's root of a singular product loses half the digits
    assert frechet_distance(mean_p, cov_p, mean_q, cov_q).item() == pytest.approx(expected.item(), rel=1e-5)


def test_known_gaussians():
    variances_p, variances_q = torch.tensor([4.0, 1.0, 0.0]).double(), torch.tensor([1.0, 9.0, 4.0]).double()
    shift = torch.tensor([0.0, 3.0, 1.0]).double()
    distance = frechet_distance(torch.zeros(3).double(), variances_p.diag(), shift, variances_q.diag())
    # sum of (mu_p - mu_q)^2 + (sigma_p - sigma_q)^2
    assert distance.item() == pytest.approx((0 + 1) + (9 + 4) + (1 + 4))


def test_is_symmetric_zero_on_itself_and_batched():
    p, q = gaussian(5, 0), gaussian(5, 1)
    assert frechet_distance(*p, *q).item() == pytest.approx(frechet_distance(*q, *p).item())
    assert frechet_distance(*p, *p).item() == pytest.approx(0, abs=1e-12)
    both = [torch.stack([a, b]) for a, b in zip(p, q, strict=True)]
    swapped = [torch.stack([b, a]) for a, b in zip(p, q, strict=True)]
    assert frechet_distance(*both, *swapped).tolist() == pytest.approx([frechet_distance(*p, *q).item()] * 2)


def measured(truth: Tensor, estimates: dict[str, Tensor], batch_size: int = 40, **arguments: object) -> dict:
    baselines = ["linear"] if "linear" in estimates else []
    metric = FrechetDistance(list(estimates), baselines, RandomConvFeatures(truth.shape[1]), **arguments)
    for start in range(0, len(truth), batch_size):
        rows = slice(start, start + batch_size)
        index = torch.arange(len(truth))[rows]
        metric.update({name: clips[rows] for name, clips in estimates.items()}, truth[rows], index)
    return next(iter(grouped(metric.compute())), {"values": {}})["values"]


@pytest.fixture(scope="module")
def ranking() -> dict:
    """Estimates of the missing frames of 160 moving textures, every 4th frame a keyframe."""
    truth = moving_textures(160)
    known = every(4, 160, 13)
    noise = 0.3 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1)) * ~known.view(160, 1, 13, 1, 1)
    interpolated = linear(truth, 4)
    estimates = {
        "truth": truth,
        "sample": truth + 0.3 * noise,
        "halfway": (truth + interpolated) / 2,
        "linear": interpolated,
        "blurred": blurred(truth, known),
        "copies": nearest_keyframe_copy(truth, known),
        "brighter": truth + 1.5,
        "slower": moving_textures(160, t=26)[:, :, :13].repeat_interleave(2, dim=2)[:, :, :13],
    }
    return measured(truth, estimates)


def test_ranks_clips_by_how_real_they_are(ranking):
    distance = {name: ranking[f"frechet/{name}"]["value"] for name in ("truth", "sample", "halfway", "linear")}
    assert distance["truth"] == pytest.approx(0, abs=1e-9)
    assert distance["truth"] < distance["sample"] < distance["halfway"] < distance["linear"]
    assert ranking["frechet/sample"]["high"] < ranking["frechet/halfway"]["low"]
    assert ranking["frechet/halfway"]["high"] < ranking["frechet/linear"]["low"]


@pytest.mark.parametrize("control", ["blurred", "copies", "brighter", "slower"])
def test_sees_blur_jumps_colour_and_pace_above_its_floor(ranking, control):
    assert ranking[f"frechet/{control}"]["value"] > 1.5 * ranking[f"frechet/{FLOOR}"]["high"]


def test_ratios_are_those_of_the_distances(ranking):
    for name in ("sample", "blurred"):
        expected = ranking[f"frechet/{name}"]["value"] / ranking["frechet/linear"]["value"]
        found = ranking[f"frechet_ratio/{name}/linear"]
        assert found["value"] == pytest.approx(expected)
        assert found["low"] < found["value"] < found["high"]


def test_the_floor_is_what_other_true_clips_have(ranking):
    truth, others = moving_textures(160), moving_textures(160, seed=1)
    distance = measured(truth, {"others": others})["frechet/others"]["value"]
    assert 0.2 * distance < ranking[f"frechet/{FLOOR}"]["value"] < 5 * distance


def test_equals_the_definition():
    truth = moving_textures(24)
    estimate = linear(truth, 3)
    features = RandomConvFeatures(2)
    p, q = (features(clips).flatten(0, 1).double() for clips in (truth, estimate))
    deviation = p.std(0)
    for standardise in (True, False):
        x, y = (p / deviation, q / deviation) if standardise else (p, q)
        raw = frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()).item()
        found = measured(truth, {"linear": estimate}, standardise=standardise)["frechet/linear"]["value"]
        assert found == pytest.approx(raw / (features.num_features if standardise else 1), rel=1e-6)


def test_scale_does_not_matter():
    truth = moving_textures(40)
    estimate = linear(truth, 3)
    found, scaled = (measured(s * truth, {"linear": s * estimate})["frechet/linear"]["value"] for s in (1, 20))
    assert scaled == pytest.approx(found, rel=1e-4)


def test_a_diverged_estimate_has_no_figure_and_spoils_no_other():
    truth = moving_textures(24)
    diverged = truth.clone()
    diverged[3, 0, 5] = float("inf")
    found = measured(truth, {"diverged": diverged, "linear": linear(truth, 3)})
    assert all(math.isnan(v) for v in found["frechet/diverged"].values())
    assert found["frechet/linear"] == measured(truth, {"linear": linear(truth, 3)})["frechet/linear"]


def test_is_the_same_in_any_batches():
    truth = moving_textures(24)
    found = [measured(truth, {"linear": linear(truth, 3)}, batch_size) for batch_size in (24, 5)]
    for name, figures in found[0].items():
        assert found[1][name] == pytest.approx(figures, rel=1e-6, abs=1e-9), name


def test_features_are_the_same_everywhere():
    """Known numbers: a change of the filters would make figures of different versions incomparable."""
    clips = torch.sin(torch.arange(2 * 5 * 6 * 7).float()).view(1, 2, 5, 6, 7)
    features = RandomConvFeatures(2)
    found = features(clips)
    assert found.shape == (1, 4, features.num_features)
    first = found[0, 0, [0, 2, 20, 49, 50, 70, 97]].tolist()
    assert first == pytest.approx([0.0139409, 0.493343, 0.0806758, 0.0595667, 1.068019, 2.075596, 2.959695], rel=1e-4)
    assert found.sum().item() == pytest.approx(242.6835, rel=1e-4)


def test_features_follow_their_seed():
    clips = moving_textures(2)
    assert torch.equal(RandomConvFeatures(2)(clips), RandomConvFeatures(2)(clips))
    assert not torch.allclose(RandomConvFeatures(2)(clips), RandomConvFeatures(2, seed=1)(clips), rtol=0.1)


def test_appearance_ignores_level_and_motion_ignores_stills():
    clips = moving_textures(3)
    still = clips[:, :, :1].expand_as(clips).contiguous()
    features = RandomConvFeatures(2)
    found, brighter = features(still), features(still + 1.0)
    assert torch.allclose(brighter[..., :2], found[..., :2] + 1, atol=1e-5)
    assert torch.allclose(brighter[..., 2:], found[..., 2:], atol=1e-4)
    assert (found[..., 2 + 48 :] == 0).all()
    assert (features(clips)[..., 2 + 48 :] > 0).all()


def test_jackknife_of_a_mean_is_its_standard_error():
    x = torch.rand(30, generator=torch.Generator().manual_seed(0)).double() + 1
    left_out = (x.sum() - x) / 29
    found = jackknife_interval(x.mean(), left_out, 0.95)
    assert found.high - found.value == pytest.approx(1.959964 * (x.std() / 30**0.5).item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_too_few_clips_give_no_figure():
    truth = moving_textures(3)
    assert FrechetDistance([], [], RandomConvFeatures(2)).compute() == []
    assert measured(truth[:1], {"linear": linear(truth, 3)[:1]}) == {}
    assert measured(truth, {"linear": linear(truth, 3)}).keys() == {"frechet/linear"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"num_folds": 1}, "num_folds=1: expected at least 2"),
        ({"confidence": 1.0}, r"confidence=1\.0: expected a number between 0 and 1"),
    ],
)
def test_refuses_bad_settings(arguments, text):
    with pytest.raises(BadValue, match=text):
        FrechetDistance(**{"methods": ["linear"], "baselines": [], "features": RandomConvFeatures(2)} | arguments)


def test_refuses_bad_features_and_clips():
    with pytest.raises(BadValue, match="width=0: expected at least 1"):
        RandomConvFeatures(2, width=0)
    with pytest.raises(BadValue, match="clips=1 frames: expected at least 2 frames"):
        RandomConvFeatures(2)(moving_textures(1)[:, :, :1])
