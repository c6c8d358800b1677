"""Scores of several samples: slow loops, known values, propriety."""

import pytest
import torch
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.evaluation.measures import Batch, SeveralSamples, energy_score
from tests.evaluation.measures.tables import records, table


def forecasts(spread: float, shift: float = 0.0, m: int = 4, b: int = 3000, seed: int = 0) -> dict[str, Tensor]:
    """Truth and samples from one normal distribution, the samples' spread and mean off by so much."""
    g = torch.Generator().manual_seed(seed)
    known = torch.zeros(b, 3, dtype=torch.bool)
    known[:, 0] = True
    centre = torch.randn(b, 2, 3, generator=g)
    return {
        "samples": centre + shift + spread * torch.randn(m, b, 2, 3, generator=g),
        "clean": centre + torch.randn(b, 2, 3, generator=g),
        "known": known,
        "level": torch.full((b,), 3),
        "sample": torch.arange(b),
    }


def scores(m: int, *batches: dict[str, Tensor]) -> dict[str, float]:
    (record,) = records(
        SeveralSamples(m, "sampler"), *(one | {"estimates": {"sampler": one["clean"]}} for one in batches)
    )
    assert record["level"] == 3
    return {name.removesuffix("/sampler"): figure["value"] for name, figure in record["values"].items()}


@pytest.mark.parametrize("space", [(3, 2), ()])
def test_energy_score_equals_the_definition(space):
    g = torch.Generator().manual_seed(0)
    samples, clean = torch.randn(5, 4, 2, 6, *space, generator=g), torch.randn(4, 2, 6, *space, generator=g)
    missing = torch.rand(4, 6, generator=g) < 0.5
    missing[:, 1] = True
    found = energy_score(samples, clean, missing)
    for i in range(4):
        x, y = samples[:, i, :, missing[i]].double().flatten(1), clean[i, :, missing[i]].double().flatten()

        def rms(v: Tensor) -> float:
            return v.square().mean().sqrt().item()

        to_truth = sum(rms(x[k] - y) for k in range(5)) / 5
        between = sum(rms(x[k] - x[j]) for k in range(5) for j in range(5) if j != k) / (5 * 4)
        assert found[i].item() == pytest.approx(to_truth - between / 2, rel=1e-5)


def test_moments_equal_the_definition():
    one = forecasts(spread=0.7, shift=0.3, b=50)
    x, y = one["samples"][..., 1:].double(), one["clean"][..., 1:].double()
    mean_mse = (x.mean(0) - y).square().mean().item()
    variance = x.var(0).mean().item()
    found = scores(4, one)
    assert found["sample_mse"] == pytest.approx((x - y).square().mean().item(), rel=1e-5)
    assert found["mean_mse"] == pytest.approx(mean_mse, rel=1e-5)
    assert found["spread"] == pytest.approx(variance**0.5, rel=1e-5)
    assert found["skill"] == pytest.approx(mean_mse**0.5, rel=1e-5)
    assert found["spread_skill"] == pytest.approx((5 / 4 * variance / mean_mse) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("m", [2, 5])
def test_perfect_samples(m):
    """Drawn from the truth's own distribution, of variance 1."""
    found = scores(m, forecasts(spread=1.0, m=m))
    assert found["spread_skill"] == pytest.approx(1, abs=0.02)
    assert found["sample_mse"] == pytest.approx(2, rel=0.03)
    assert found["mean_mse"] == pytest.approx(1 + 1 / m, rel=0.03)


def test_the_energy_score_is_lowest_for_the_true_distribution():
    perfect = scores(4, forecasts(spread=1.0))["energy_score"]
    for wrong in (
        forecasts(spread=0.6),
        forecasts(spread=1.6),
        forecasts(spread=1.0, shift=0.5),
        forecasts(spread=0.0),
    ):
        assert scores(4, wrong)["energy_score"] > perfect + 0.01


def test_the_energy_score_does_not_depend_on_the_number_of_samples():
    found = [scores(m, forecasts(spread=0.8, m=m))["energy_score"] for m in (2, 8)]
    assert found[0] == pytest.approx(found[1], abs=0.015)  # the biased estimator would differ by 0.2


def test_the_truth_and_a_point_forecast():
    one = forecasts(spread=1.0, b=20)
    exact = scores(4, one | {"samples": one["clean"].expand(4, -1, -1, -1).contiguous()})
    assert exact["sample_mse"] == exact["mean_mse"] == exact["energy_score"] == exact["spread"] == 0.0
    point = one["samples"][:1].expand(4, -1, -1, -1).contiguous()
    found = scores(4, one | {"samples": point})
    assert found["spread"] == found["spread_skill"] == pytest.approx(0, abs=1e-6)
    assert found["sample_mse"] == pytest.approx(found["mean_mse"], rel=1e-5)
    error = (point[0] - one["clean"])[..., 1:].square().mean((1, 2)).sqrt().mean().item()
    assert found["energy_score"] == pytest.approx(error, rel=1e-5)


def test_samples_are_exchangeable_and_known_frames_unread():
    one = forecasts(spread=0.7, b=20)
    hidden = one["known"].view(20, 1, 3)
    poisoned = {
        "samples": one["samples"].masked_fill(hidden, float("nan")),
        "clean": one["clean"].masked_fill(hidden, 9.0),
    }
    assert scores(4, one | poisoned) == scores(4, one)
    assert scores(4, one | {"samples": one["samples"].flip(0)}) == pytest.approx(scores(4, one), rel=1e-5)


def test_refuses_a_single_sample():
    with pytest.raises(BadValue, match="num_samples=1: expected at least 2 samples per clip"):
        SeveralSamples(1, "sampler")
    one = forecasts(spread=1.0, m=1, b=2)
    with pytest.raises(BadValue, match="samples=1: expected at least 2 samples per clip"):
        energy_score(one["samples"], one["clean"], ~one["known"])
    with pytest.raises(BadValue, match="samples=1: expected 4 samples per clip"):
        table(SeveralSamples(4, "sampler"), ["sampler"]).update(Batch(**one, estimates={"sampler": one["clean"]}))
