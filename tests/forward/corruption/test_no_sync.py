"""The forward process never waits for the device: every interpolator in two modes, on a GPU in every mode."""

from copy import deepcopy
from functools import cache

import pytest
import torch

from interp_refiner.forward.interpolator import Remembered
from tests.factories import make_corruption, make_interpolator, random_clip, with_modes
from tests.helpers import NoHostSync, cuda_sync_is_an_error, group_members

MODES = group_members("corruption")


@cache
def corruption(mode):
    return make_corruption(f"corruption={mode}", *["corruption/bridge_time=uniform"] * (mode != "none"))


def clip():
    return random_clip(batch=3, frames=9, channels=16)


def off_the_host(interpolator):
    """What runs where nothing is kept in memory: that is done on the CPU only."""
    return interpolator.inner if isinstance(interpolator, Remembered) else interpolator


@pytest.mark.parametrize(("name", "mode"), with_modes(group_members("interpolator")))
def test_no_operator_waits_for_the_device(name, mode, monkeypatch):
    monkeypatch.setattr(corruption(mode), "interpolator", off_the_host(make_interpolator(name)))
    with NoHostSync():
        corrupted = corruption(mode)(clip(), "train")
    assert corrupted.x.isfinite().all()
    assert set(corrupted.level.tolist()) <= {1, 2, 3, 4}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", group_members("interpolator"))
def test_nothing_waits_on_a_gpu(name, mode, monkeypatch):
    monkeypatch.setattr(corruption(mode), "interpolator", deepcopy(make_interpolator(name)).cuda())
    on_gpu = clip().to("cuda")
    corruption(mode)(on_gpu, "train")  # what is allocated and moved once
    with cuda_sync_is_an_error():
        corruption(mode)(on_gpu, "train")
