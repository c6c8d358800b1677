"""The forward process never waits for the device: every interpolator under every mode."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from omegaconf import OmegaConf

from interp_refiner.codec import PatchDCT
from interp_refiner.core import Clip
from interp_refiner.interpolator import use_codec
from tests.factories import make_corruption
from tests.helpers import NoHostSync, build, cuda_sync_is_an_error, group_config, group_members

MODES = group_members("corruption")


@cache
def interpolator(name):
    learned = OmegaConf.is_missing(group_config("interpolator", name), "checkpoint")
    built = build("interpolator", name, *["interpolator.checkpoint=null"] * learned)
    use_codec(built, PatchDCT())
    return built


@cache
def corruption(mode):
    return make_corruption(f"corruption={mode}", *["corruption/bridge_time=uniform"] * (mode != "none"))


def clip():
    latents = torch.randn(3, 16, 9, 4, 6, generator=torch.Generator().manual_seed(0))
    return Clip(latents, ["a", "b", "c"], epochs=[0] * 3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", group_members("interpolator"))
def test_no_operator_waits_for_the_device(name, mode, monkeypatch):
    monkeypatch.setattr(corruption(mode), "interpolator", interpolator(name))
    with NoHostSync():
        corrupted = corruption(mode)(clip(), "train")
    assert corrupted.x.isfinite().all()
    assert set(corrupted.level.tolist()) <= {1, 2, 3, 4}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", group_members("interpolator"))
def test_nothing_waits_on_a_gpu(name, mode, monkeypatch):
    monkeypatch.setattr(corruption(mode), "interpolator", deepcopy(interpolator(name)).cuda())
    on_gpu = clip().to("cuda")
    corruption(mode)(on_gpu, "train")  # what is allocated and moved once
    with cuda_sync_is_an_error():
        corruption(mode)(on_gpu, "train")
