"""Muon for the matrices of blocks, AdamW for the rest, as one optimizer."""

import copy

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.training import AdamW, Muon, is_block_matrix
from tests.backbone.small_wan import small_wan

RECIPE = Muon(lr=0.01, warmup_steps=0)


def with_gradients(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return model


def test_muon_takes_the_matrices_of_blocks_by_name():
    model = small_wan()
    muon, decayed, plain = RECIPE.optimizer(model).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    of = lambda group: {names[id(p)] for p in group["params"]}  # noqa: E731
    assert {"wan.blocks.0.attn1.to_q.weight", "wan.blocks.2.ffn.net.2.weight"} <= of(muon)
    assert all(name.startswith("wan.blocks.") and name.endswith(".weight") for name in of(muon))
    assert {"wan.patch_embedding.weight", "wan.proj_out.weight", "frame_numbers.out.weight"} <= of(decayed)
    assert {"wan.blocks.0.scale_shift_table", "wan.blocks.0.norm2.weight", "wan.proj_out.bias"} <= of(plain)
    assert plain["weight_decay"] == 0 < decayed["weight_decay"]
    assert len(of(muon)) + len(of(decayed)) + len(of(plain)) == len(names)


def test_a_step_is_muons_on_matrices_and_adamws_on_the_rest():
    joined, adamw = with_gradients(small_wan()), with_gradients(small_wan())
    matrices = [p for name, p in small_wan().named_parameters() if is_block_matrix(name, p)]
    muon = torch.optim.Muon(matrices, lr=0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    start = {name: p.detach().clone() for name, p in joined.named_parameters()}
    for p, q in zip(matrices, [p for n, p in joined.named_parameters() if is_block_matrix(n, p)], strict=True):
        p.grad = q.grad.clone()
    RECIPE.optimizer(joined).step()
    AdamW(lr=0.01, warmup_steps=0).optimizer(adamw).step()
    muon.step()
    expected, others = iter(matrices), dict(adamw.named_parameters())
    for name, parameter in joined.named_parameters():
        assert not torch.equal(parameter, start[name])
        reference = next(expected) if is_block_matrix(name, parameter) else others[name]
        torch.testing.assert_close(parameter, reference, atol=1e-7, rtol=0)


def test_its_rate_follows_the_schedule_and_its_state_resumes():
    first = with_gradients(small_wan())
    configured = Muon(lr=0.01, warmup_steps=4).configure(first, 100)
    optimizer = configured["optimizer"]
    optimizer.step()
    configured["lr_scheduler"]["scheduler"].step()
    assert {group["lr"] for inner in optimizer.optimizers for group in inner.param_groups} == {0.005}
    second = copy.deepcopy(first)
    resumed = RECIPE.optimizer(second)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, chosen in ((first, optimizer), (second, resumed)):
        with_gradients(model, seed=1)
        chosen.step()
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))


def test_bad_momentum_is_refused():
    with pytest.raises(BadValue, match="momentum=1"):
        Muon(momentum=1.0)
