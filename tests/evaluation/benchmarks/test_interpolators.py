"""The table of interpolators: known figures on clips whose answers are known."""

import pytest
import torch
from scipy.stats import spearmanr

from interp_refiner.core import BadValue
from interp_refiner.data import DatasetMetadata, Sample, write_shards
from interp_refiner.data.codec import PatchDCT
from interp_refiner.evaluation import HeldOutClips, InterpolatorBenchmark
from interp_refiner.evaluation.measures import psnr, rank_correlation
from interp_refiner.forward.interpolator import FlowWarp, InPixels, Linear, MotionCompensated, Sinkhorn, Spline


def shards(folder, codec="patch_dct", clips=3):
    """Clips of white noise, as a data set declares them."""
    latents = torch.randn(clips, 16, 9, 4, 6, generator=torch.Generator().manual_seed(0))
    metadata = DatasetMetadata(
        latent_shape=(16, 9, 4, 6), latent_dtype="float32", text_shape=None, normalised=True, fps=8.0, made_by={},
        codec={"name": codec, "temporal_factor": 1, "spatial_factor": 4, "first_frame_alone": False},
        latents_mean=[0.0] * 16, latents_std=[0.1] * 16,
    )  # fmt: skip
    write_shards(folder / "val", (Sample(f"clip{i}", clip, None, "") for i, clip in enumerate(latents)), metadata)
    return latents


def table(folder, interpolators, **options):
    options = {"gaps": [2, 4], "batch_size": 2, **options}
    benchmark = InterpolatorBenchmark(interpolators, HeldOutClips(str(folder)), **options)
    result = benchmark.run("cpu")
    return {(row["interpolator"], row["gap"]): row for row in result["rows"]}, result, benchmark.markdown(result)


def test_figures_are_those_of_the_clips(tmp_path):
    latents = shards(tmp_path)
    rows, result, text = table(tmp_path, {"linear": Linear(), "spline": Spline(), "sinkhorn": Sinkhorn(patch=1)})
    assert set(rows) == {(name, gap) for name in ("linear", "spline", "sinkhorn") for gap in (2, 4)}
    known = torch.arange(9) % 4 == 0
    filled = Spline()(latents, known.expand(3, -1)).latents
    error, base = (
        (z - latents)[:, :, ~known].square().mean() for z in (filled, Linear()(latents, known.expand(3, -1)).latents)
    )
    assert rows["spline", 4]["mse"] == pytest.approx(error.item(), rel=1e-5)
    assert rows["spline", 4]["ratio"] == pytest.approx((error / base).item(), rel=1e-5)
    low, high = rows["spline", 4]["ratio_interval"]
    assert low < rows["spline", 4]["ratio"] < high
    assert rows["linear", 4]["ratio_interval"] == [1, 1]
    codec = PatchDCT([0.0] * 16, [0.1] * 16)
    decibels = psnr(codec.decode(filled), codec.decode(latents))[:, ~known].mean().item()
    assert rows["spline", 4]["psnr"] == pytest.approx(decibels, rel=1e-5)
    assert rows["linear", 2]["ratio"] == 1
    assert all(row["ms"] > 0 for row in rows.values())
    assert rows["linear", 4]["correlation"] is None
    assert -1 <= rows["sinkhorn", 4]["correlation"] <= 1
    assert f"| spline | {rows['spline', 2]['ratio']:.3f} | {rows['spline', 4]['ratio']:.3f} |" in text
    assert f"| {low:.3f}-{high:.3f} |" in text
    assert result["shape"] == [3, 16, 9, 4, 6]


def test_what_cannot_be_judged_is_left_out_with_its_reason(tmp_path):
    shards(tmp_path, codec="wan_vae")
    members = {
        "linear": Linear(),
        "untrained": FlowWarp(),
        "pixels": InPixels(MotionCompensated(radius=2, block=2)),
    }
    rows, result, text = table(tmp_path, members)
    assert {name for name, _ in rows} == {"linear"}
    assert result["left_out"] == {"untrained": "no checkpoint", "pixels": "no decoder for its pixels"}
    assert "Left out: untrained, no checkpoint." in text
    assert all(row["psnr"] is None for row in rows.values())
    assert "dB" not in text


def test_bad_settings_are_named(tmp_path):
    with pytest.raises(BadValue, match=r"gaps=\[1, 3\]: expected gaps of at least 2 frames"):
        InterpolatorBenchmark({}, HeldOutClips(str(tmp_path)), gaps=[1, 3])
    with pytest.raises(BadValue, match="count=0: expected at least 1"):
        HeldOutClips(str(tmp_path), count=0)
    shards(tmp_path)
    with pytest.raises(BadValue, match="expected gaps below the 9 frames of a clip"):
        table(tmp_path, {"linear": Linear()}, gaps=[9])


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlation_is_spearmans(ties):
    x, y = torch.randn(2, 200, generator=torch.Generator().manual_seed(3))
    y = x + 2 * y
    if ties:
        x, y = (3 * x).round(), (2 * y).round()
    assert rank_correlation(x.view(10, 20), y.view(10, 20)) == pytest.approx(spearmanr(x, y).statistic, abs=1e-9)
    assert rank_correlation(x, -x.exp()) == pytest.approx(-1)
    assert rank_correlation(torch.zeros(5), torch.arange(5.0)) is None
