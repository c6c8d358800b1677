"""The factorised network without prompts, and its size."""

import re
from dataclasses import replace

import pytest

from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.model.backbone import Factorised, FactorisedSize, LTXSize, TrajectorySize, WanSize
from tests.factories import corrupted_clip
from tests.model.backbone.made import made


def test_without_prompts_every_weight_has_a_gradient_too():
    """DDP waits for the gradient of every weight, and fails in the second step if one is lacking."""
    model = made(Factorised, ClipSpec((4, 21, 4, 6)), dim=16, num_layers=1, num_heads=2)
    corrupted, _, _ = corrupted_clip(batch=2)
    corrupted = replace(corrupted, clip=replace(corrupted.clip, text=None))
    model(corrupted).square().mean().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    assert (model.text.weight.grad == 0).all()


@pytest.mark.parametrize("dim", [0, -2, 7])
def test_channels_that_cannot_be_are_refused(dim):
    with pytest.raises(BadValue, match=rf"^dim={dim}: expected an even number"):
        FactorisedSize(dim=dim)


@pytest.mark.parametrize(
    ("size", "name", "value"),
    [
        (WanSize, "num_attention_heads", 0),
        (WanSize, "ffn_dim", -1),
        (WanSize, "freq_dim", 0),
        (WanSize, "patch_size", [1, 0, 2]),
        (WanSize, "patch_size", [1, 2]),
        (LTXSize, "num_attention_heads", 0),
        (TrajectorySize, "dim", 0),
        (FactorisedSize, "num_layers", -1),
    ],
)
def test_no_network_has_a_size_below_its_least(size, name, value):
    with pytest.raises(BadValue, match=f"^{re.escape(f'{name}={value}')}: expected "):
        size(**{name: value})
