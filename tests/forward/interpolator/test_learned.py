"""Learned interpolators: loaded weights stay frozen."""

import os
import re

import pytest
import torch
from safetensors.torch import save_file

from interp_refiner.core import AVERAGED, BadValue, neighbours, save_tensors, save_weights
from interp_refiner.forward.interpolator import FlowWarp, InPixels
from tests.factories import make_corruption, random_clip

SMALL = {"channels": 4, "width": 8, "radius": 1}


def trained(seed=0, **size):
    """An interpolator that has left its start."""
    torch.manual_seed(seed)
    interpolator = FlowWarp(**{**SMALL, **size})
    with torch.no_grad():
        for weight in interpolator.parameters():
            weight.normal_(std=0.1)
    return interpolator


def values_and_mask():
    known = torch.zeros(2, 5, dtype=torch.bool)
    known[:, [0, 4]] = True
    return torch.randn(2, 4, 5, 8, 8, generator=torch.Generator().manual_seed(1)), known


def run_folder(path, interpolator, averaged):
    """What a fit leaves: raw and averaged weights beside those of other parts of the module."""
    (path / "checkpoints").mkdir()
    raw = {FlowWarp.prefix + name: value for name, value in interpolator.state_dict().items()}
    average = {FlowWarp.prefix + name: value for name, value in averaged.state_dict().items()}
    state = {"state_dict": {**raw, "gap_error.count": torch.ones(3)}, AVERAGED: average}
    torch.save(state, path / "checkpoints" / "last.ckpt")
    return path


def test_a_safetensors_file_brings_the_weights_back(tmp_path):
    source = trained()
    save_weights(source, tmp_path / "warp.safetensors")
    loaded = FlowWarp(**SMALL, checkpoint=str(tmp_path / "warp.safetensors"))
    assert torch.equal(loaded(*values_and_mask()).latents, source(*values_and_mask()).latents)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w, name: w.pop(name), "{name} is missing"),
        (lambda w, name: w.update({f"_orig_mod.{name}": w.pop(name)}), "_orig_mod.{name} is unknown; a compiled"),
        (lambda w, name: w.update({name: w[name][:1].clone()}), "{name} is [1"),
        (lambda w, name: w.update({name: w[name].to(torch.int8)}), "int8, not ["),
    ],
)
def test_weights_that_are_not_its_own_are_named(tmp_path, change, said):
    weights = dict(trained().state_dict())
    name = max(weights, key=lambda name: len(weights[name]) if weights[name].ndim else 0)
    change(weights, name)
    save_tensors(weights, tmp_path / "warp.safetensors")
    with pytest.raises(BadValue, match=re.escape(said.format(name=name))) as error:
        FlowWarp(**SMALL, checkpoint=str(tmp_path / "warp.safetensors"))
    assert "expected weights of FlowWarp at this size" in str(error.value)


def test_files_have_the_permissions_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        save_weights(trained(), tmp_path / "warp.safetensors")
        save_weights(trained(), tmp_path / "warp.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "warp.safetensors").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("place", ["", "checkpoints/last.ckpt"])
def test_a_run_folder_brings_the_averaged_weights(tmp_path, place):
    raw, averaged = trained(0), trained(1)
    loaded = FlowWarp(**SMALL, checkpoint=str(run_folder(tmp_path, raw, averaged) / place))
    result = loaded(*values_and_mask()).latents
    assert torch.equal(result, averaged(*values_and_mask()).latents)
    assert not torch.equal(result, raw(*values_and_mask()).latents)


def test_frozen_weights_get_no_gradients_but_values_do(tmp_path):
    save_weights(trained(), tmp_path / "warp.safetensors")
    frozen = FlowWarp(**SMALL, checkpoint=str(tmp_path / "warp.safetensors"))
    values, known = values_and_mask()
    frozen(values.requires_grad_(), known).latents.square().mean().backward()
    assert values.grad.abs().sum() > 0
    assert all(not weight.requires_grad and weight.grad is None for weight in frozen.parameters())
    assert not frozen.train().training


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_frozen_weights_follow_the_dtype_of_the_batch(tmp_path, dtype):
    save_weights(trained(), tmp_path / "warp.safetensors")
    frozen = FlowWarp(**SMALL, checkpoint=str(tmp_path / "warp.safetensors"))
    values, known = values_and_mask()
    exact = frozen(values.double(), known).latents
    filled = frozen(values.to(dtype), known).latents
    assert filled.dtype == dtype
    torch.testing.assert_close(filled.double(), exact, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    "device",
    [
        "meta",
        pytest.param(
            "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
        ),
    ],
)
def test_frozen_weights_follow_the_device_of_the_batch(tmp_path, device):
    save_weights(trained(), tmp_path / "warp.safetensors")
    frozen = FlowWarp(**SMALL, checkpoint=str(tmp_path / "warp.safetensors"))
    values, known = (tensor.to(device) for tensor in values_and_mask())
    with torch.inference_mode(device == "cuda"):  # as Lightning validates
        near = neighbours(known)
        frozen.fill(values, near)
    assert {weight.device.type for weight in frozen.parameters()} == {device}
    assert not any(weight.is_inference() for weight in frozen.parameters())


def test_loading_in_pixels_brings_what_is_inside(tmp_path):
    source = InPixels(trained(channels=3, stride=2))
    save_weights(source, tmp_path / "pixels.safetensors")
    inner = FlowWarp(**{**SMALL, "channels": 3}, stride=2)
    loaded = InPixels(inner, checkpoint=str(tmp_path / "pixels.safetensors"))
    for name, weight in source.inner.state_dict().items():
        assert torch.equal(loaded.inner.state_dict()[name], weight)
    assert not any(weight.requires_grad for weight in inner.parameters())


def test_a_corruption_uses_it_and_gives_clips_without_gradient(tmp_path):
    save_weights(trained(), tmp_path / "warp.safetensors")
    place = f"interpolator.checkpoint={tmp_path / 'warp.safetensors'}"
    size = [f"interpolator.{name}={value}" for name, value in SMALL.items()]
    warped = make_corruption("interpolator=flow_warp", place, *size)(random_clip(), "val")
    linear = make_corruption()(random_clip(), "val")
    assert not warped.x.requires_grad
    assert not torch.equal(warped.interpolation, linear.interpolation)
    assert (warped.confidence[warped.missing] > 0).any()


def test_what_is_not_there_or_does_not_fit_is_named(tmp_path):
    with pytest.raises(BadValue, match=r"checkpoint=.*nowhere: expected a run folder with checkpoints/last\.ckpt"):
        FlowWarp(checkpoint=str(tmp_path / "nowhere"))
    save_weights(trained(), tmp_path / "warp.safetensors")
    with pytest.raises(BadValue, match=r"of FlowWarp at this size: encode_fine\.0\.weight is \[8"):
        FlowWarp(**{**SMALL, "width": 12}, checkpoint=str(tmp_path / "warp.safetensors"))
    save_file({"other": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(BadValue, match="expected weights of FlowWarp"):
        FlowWarp(**SMALL, checkpoint=str(tmp_path / "other.safetensors"))
    (tmp_path / "torn.safetensors").write_bytes(b"not it")
    with pytest.raises(BadValue, match=r"torn\.safetensors: expected a complete \.safetensors file"):
        FlowWarp(**SMALL, checkpoint=str(tmp_path / "torn.safetensors"))
