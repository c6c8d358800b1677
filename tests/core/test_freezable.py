"""Frozen weights: a path that is no such file is refused in one line."""

import argparse

import pytest
import torch
from safetensors.torch import save_file

from interp_refiner.core import BadValue, save_weights
from interp_refiner.forward.interpolator import FlowWarp
from interp_refiner.forward.schedule import Selector

WRONG = {
    "refiner.ckpt": ({"state_dict": {"backbone.w": torch.ones(2), "objective.v": torch.ones(1)}},
                     r"no `selector\.\*` weights in it: a run of backbone, objective$"),
    "odd.ckpt": ({"weights": 1}, "no state_dict in it$"),
    "flat.ckpt": ({"state_dict": 3}, "no state_dict in it$"),
    "empty_run.ckpt": ({"state_dict": {}}, "a run of nothing$"),
    "list.pt": ([1, 2], "no state_dict in it$"),
    "foreign.ckpt": ({"state_dict": {}, "args": argparse.Namespace(a=1)},
                     r"a complete \.ckpt file: Weights only load failed$"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_another_kind_of_file_is_named(tmp_path, name):
    content, message = WRONG[name]
    torch.save(content, tmp_path / name)
    with pytest.raises(BadValue, match=message) as error:
        Selector().freeze(str(tmp_path / name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["junk.ckpt", "junk.safetensors", "junk.pt"])
@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04 no zip"])
def test_junk_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadValue, match=r"expected a complete .* file: .+") as error:
        Selector().freeze(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_weights_of_another_module_and_weights_that_are_not_finite_are_refused(tmp_path):
    save_weights(FlowWarp(channels=4), tmp_path / "warp.safetensors")
    with pytest.raises(BadValue, match="expected weights of Selector at this size"):
        Selector().freeze(str(tmp_path / "warp.safetensors"))
    broken = {name: torch.full_like(value, torch.nan) for name, value in Selector().state_dict().items()}
    save_file(broken, tmp_path / "nan.safetensors")
    with pytest.raises(BadValue, match=r"expected weights of Selector at this size: .* holds NaN or infinity"):
        Selector().freeze(str(tmp_path / "nan.safetensors"))


@pytest.mark.parametrize("module", [FlowWarp(channels=4), Selector()])
def test_untrained_weights_follow_the_device_too(module):
    """``checkpoint: null`` in a refiner's corruption, which no trainer moves."""
    module.follow(torch.device("meta"))
    assert {weight.device.type for weight in module.parameters()} == {"meta"}
