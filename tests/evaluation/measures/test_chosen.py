"""Metrics chosen by name: built from their configs, or refused with what they need."""

import pytest
import torch

from interp_refiner.config import build
from interp_refiner.core import BadValue
from interp_refiner.evaluation.measures import (
    FLOOR,
    Frechet,
    FrechetDistance,
    InceptionFeatures,
    RandomConvFeatures,
)
from tests.evaluation.measures.tables import grouped, records
from tests.evaluation.measures.test_perceptual import (
    I3D,
    VGG16,
    Inception,
    needs_ffmpeg,
    needs_stlpips,
    noisy,
    videos,
    weights,
)
from tests.helpers import group_config, group_members

__all__ = ["weights"]  # a fixture
KNOWN = torch.tensor([[True, False, False, False, False, True]] * 4)


def metric_of(name, *overrides):
    return build(group_config("metric", name, *overrides)[name])


def measured(metric, t=6):
    """Records of estimates with little and with much noise."""
    clean = videos(b=4, t=t, h=64, w=96)
    estimates = {"good": noisy(clean, 0.03), "bad": noisy(clean, 0.3)}
    batch = {"estimates": estimates, "clean": clean, "known": KNOWN, "level": torch.full((4,), 2)}
    batch |= {"sample": torch.arange(4), "latent_frame": torch.arange(t).clamp(max=5)}
    return records(metric, batch, baselines=["bad"])


@pytest.mark.parametrize(
    ("name", "better"),
    [
        pytest.param("st_lpips", -1, marks=needs_stlpips),
        pytest.param("vmaf", 1, marks=needs_ffmpeg),
    ],
)
def test_those_with_their_own_weights_rank_estimates(name, better):
    values = next(r for r in measured(metric_of(name)) if r.get("level") == 2 and "gap" not in r)["values"]
    assert better * (values[f"{name}/good"]["value"] - values[f"{name}/bad"]["value"]) > 0


@pytest.mark.parametrize(("name", "weights"), [("lpips", VGG16), ("fvd", I3D)], indirect=["weights"])
def test_those_of_local_files_rank_estimates(name, weights):
    metric = metric_of(name, f"metric.{name}.weights={weights}")
    values = next(r for r in measured(metric, t=10) if r.get("level") == 2 and "gap" not in r)["values"]
    assert values[f"{name}/good"]["value"] < values[f"{name}/bad"]["value"]


@pytest.mark.parametrize("weights", [Inception], indirect=True)
def test_fid_compares_inception_features_as_published(weights):
    metric = metric_of("fid", f"metric.fid.weights={weights}")  # not computed: roots of 2048 x 2048 take minutes
    assert isinstance(metric.features, InceptionFeatures)
    assert (metric.measures[0].name, metric.settings) == ("fid", {"standardise": False, "num_folds": 2})


@pytest.mark.parametrize("name", ["lpips", "fid", "fvd"])
def test_a_missing_file_is_said_with_its_key_and_what_is_needed(name):
    said = rf"metric\.{name}\.weights=nowhere\.pt: expected the path of .*TorchScript.* never downloaded"
    with pytest.raises(BadValue, match=said):
        metric_of(name, f"metric.{name}.weights=nowhere.pt")


@pytest.mark.parametrize("name", ["lpips", "fid", "fvd"])
def test_asked_for_without_its_file_it_says_which_it_needs(name):
    with pytest.raises(BadValue, match=rf"metric\.{name}\.weights=None: expected the path of .*never downloaded"):
        metric_of(name)


@needs_ffmpeg
@pytest.mark.parametrize("without", ["nowhere", "other"])
def test_an_ffmpeg_without_libvmaf_is_refused_before_anything_is_measured(monkeypatch, tmp_path, without):
    program = tmp_path / without
    if without == "other":
        program.write_text("#!/bin/sh\necho ' .. vmafmotion        V->V       Calculate the VMAF Motion score.'\n")
        program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    with pytest.raises(BadValue, match=rf"IMAGEIO_FFMPEG_EXE={program}: expected the path of an ffmpeg with .*libvmaf"):
        metric_of("vmaf")


def test_every_member_of_the_group_is_one_of_those():
    assert set(group_members("metric")) == {"st_lpips", "vmaf", "lpips", "fid", "fvd"}


def test_frechet_distances_by_level_are_those_of_each_level():
    clean = videos(b=8, t=6)
    known, sample = torch.ones(8, 6, dtype=torch.bool), torch.arange(8)
    batches, alone = [], {}
    for level, sigma in ((3, 0.2), (1, 0.05)):
        estimates = {"noisy": noisy(clean, sigma)}
        levels = torch.full((8,), level)
        batches.append({"estimates": estimates, "clean": clean, "known": known, "level": levels, "sample": sample})
        metric = FrechetDistance(["noisy"], [], RandomConvFeatures(3))
        metric.update(estimates, clean, sample)
        (group,) = grouped(metric.compute())
        alone[level] = group["values"]
    found = records(Frechet(), *batches)
    assert [(r["level"], r["clips"]) for r in found] == [(1, 8), (3, 8)]
    assert all(r["values"] == alone[r["level"]] for r in found)
    assert f"frechet/{FLOOR}" in alone[1]
