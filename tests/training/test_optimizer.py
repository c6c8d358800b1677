"""Parameter groups and the learning-rate schedule."""

import copy
import math
from collections import OrderedDict

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.model.backbone import Wan
from interp_refiner.training.optimizer import AdamW, Muon, parameter_groups
from tests.factories import spec_of
from tests.model.backbone.made import made


def test_norms_biases_and_tables_do_not_decay():
    size = {"num_layers": 1, "num_attention_heads": 1, "attention_head_dim": 32, "ffn_dim": 32, "freq_dim": 32}
    model = made(Wan, spec_of(), **size)
    decayed, plain = parameter_groups(model, 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    assert decayed["weight_decay"] == 0.1
    assert plain["weight_decay"] == 0
    assert len(decayed["params"]) + len(plain["params"]) == len(names)
    of = lambda group: {names[id(p)] for p in group["params"]}  # noqa: E731
    assert {"wan.patch_embedding.weight", "wan.blocks.0.attn1.to_q.weight", "frame_numbers.out.weight"} <= of(decayed)
    assert {"wan.scale_shift_table", "wan.blocks.0.norm2.weight", "wan.proj_out.bias"} <= of(plain)
    assert all(name.endswith("weight") for name in of(decayed))


def test_frozen_parameters_are_left_out():
    layer = torch.nn.Linear(2, 2)
    layer.weight.requires_grad_(False)
    decayed, plain = parameter_groups(layer, 0.1)
    assert decayed["params"] == []
    assert plain["params"] == [layer.bias]


def test_rate_warms_up_holds_and_falls_along_a_cosine():
    recipe = AdamW(warmup_steps=10, decay_share=0.5, final_share=0.1)
    rate = lambda step: recipe.factor(step, 100)  # noqa: E731
    assert [rate(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert rate(30) == rate(50) == 1
    assert rate(75) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert rate(100) == pytest.approx(0.1)
    assert rate(1000) == pytest.approx(0.1)


def test_a_run_without_an_end_does_not_decay():
    assert AdamW(warmup_steps=10).factor(10**6, -1) == 1
    assert AdamW(warmup_steps=0, decay_share=0.0).factor(10**6, 100) == 1


def test_configure_applies_the_schedule_to_every_group():
    recipe = AdamW(lr=0.5, warmup_steps=4)
    configured = recipe.configure(torch.nn.Linear(3, 3), 100)
    assert [group["lr"] for group in configured["optimizer"].param_groups] == [0.125, 0.125]
    assert configured["lr_scheduler"]["interval"] == "step"


def test_whole_numbers_serve_as_betas():
    AdamW(lr=0.1, betas=(0, 0.99)).optimizer(torch.nn.Linear(3, 3))


def test_the_step_is_fused_and_equals_the_plain_one():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(5, 4) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    fused = AdamW(lr=0.1, weight_decay=0.3).optimizer(layers[0])
    plain = torch.optim.AdamW(parameter_groups(layers[1], 0.3), lr=0.1, betas=(0.9, 0.99), foreach=False)
    assert all(group["fused"] for group in fused.param_groups)
    for x in torch.randn(3, 7, 5):
        for layer, optimizer in zip(layers, (fused, plain), strict=True):
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(layers[0].weight, layers[1].weight, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "setting", [{"lr": 0.0}, {"warmup_steps": -1}, {"decay_share": 1.5}, {"final_share": -0.1}], ids=str
)
def test_bad_settings_name_themselves(setting):
    with pytest.raises(BadValue, match=next(iter(setting))):
        AdamW(**setting)


def _stepped(recipe, steps, layer, restored=None):
    """A layer trained for some steps; from a saved (optimizer, schedule) where there is one."""
    configured = recipe.configure(layer, 40)
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    if restored is not None:
        optimizer.load_state_dict(restored[0])
        schedule.load_state_dict(restored[1])
    rates = []
    for step in range(*steps):
        x = torch.randn(7, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        rates.append([(group["lr"], group["weight_decay"]) for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return layer, rates, (optimizer.state_dict(), schedule.state_dict())


def _layer():
    torch.manual_seed(1)
    blocks = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Linear(6, 4))
    return torch.nn.Sequential(OrderedDict(blocks=blocks))  # Muon takes the matrices of blocks


@pytest.mark.parametrize("recipe", [AdamW, Muon])
def test_a_resumed_optimizer_goes_on_exactly(recipe):
    layer = _layer()
    whole, rates, _ = _stepped(recipe(lr=0.01, warmup_steps=9), (0, 20), _layer())
    layer, first, state = _stepped(recipe(lr=0.01, warmup_steps=9), (0, 7), layer)
    layer, second, _ = _stepped(recipe(lr=0.01, warmup_steps=9), (7, 20), layer, copy.deepcopy(state))
    assert first + second == rates
    for name, weight in whole.state_dict().items():
        assert torch.equal(layer.state_dict()[name], weight), name


@pytest.mark.parametrize("recipe", [AdamW, Muon])
def test_settings_that_a_resumed_run_is_told_are_those_it_trains_with(recipe):
    """At once, and along the schedule at the step where the run is; the moments are kept."""
    _, _, state = _stepped(recipe(lr=0.01, warmup_steps=9), (0, 7), _layer())
    told = recipe(lr=0.002, weight_decay=0.3, betas=(0.5, 0.6), warmup_steps=9)
    _, rates, (after, _) = _stepped(told, (7, 20), _layer(), copy.deepcopy(state))
    assert [rate for rate, _ in [step[0] for step in rates]] == [0.002 * told.factor(step, 40) for step in range(7, 20)]
    assert {decay for step in rates for _, decay in step} == {0.3, 0.0}
    assert all(group.get("betas", (0.5, 0.6)) == (0.5, 0.6) for group in after["param_groups"])
    assert max(float(s["step"]) for s in after["state"].values() if "step" in s) == 20
