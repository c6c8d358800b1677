"""Recomputation changes what is saved for the backward pass, and nothing else."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from interp_refiner.core import BadValue
from interp_refiner.model.attention import Dense, SparseLinear
from interp_refiner.model.backbone import FullRecomputation, NoRecomputation, SelectiveRecomputation
from interp_refiner.model.backbone.recomputation import keep_inputs, keep_products, kept_bytes
from tests.model.backbone.small_wan import clip, loss_and_gradients, small_wan

MODES = {"none": NoRecomputation(), "selective": SelectiveRecomputation(), "full": FullRecomputation()}
ATTENTION = {"dense": None, "sparse_linear": SparseLinear(0.5, 8, 4, [2, 2, 2])}


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("mode", ["selective", "full"])
def test_loss_and_gradients_are_bit_for_bit_those_without(mode, attention):
    corrupted = clip()
    models = (small_wan(recomputation=MODES[name], attention=ATTENTION[attention]) for name in ("none", mode))
    (loss, gradients), (loss_again, gradients_again) = (loss_and_gradients(model, corrupted) for model in models)
    assert torch.equal(loss, loss_again)
    assert gradients.keys() == gradients_again.keys()
    assert all(torch.equal(value, gradients_again[name]) for name, value in gradients.items())


def bytes_kept(recomputation, attention=None):
    """What a forward pass allocated and did not free, as the profiler counts it."""
    model, corrupted = small_wan(recomputation=recomputation, attention=attention), clip(space=(16, 16))
    model(corrupted).sum().backward()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        output = model(corrupted)
    assert output.requires_grad
    return sum(event.self_cpu_memory_usage for event in profiler.key_averages())


def test_less_is_kept_the_more_is_recomputed():
    kept = {name: bytes_kept(mode) for name, mode in MODES.items()}
    assert kept["none"] > 1.5 * kept["selective"]
    assert kept["selective"] > 1.2 * kept["full"] > 0
    budget = bytes_kept(SelectiveRecomputation(memory_gb=estimate(Dense()) * 1.5 / 1e9))  # one block
    assert kept["selective"] > budget > kept["full"]


def estimate(attention):
    """Of one block of the model of :func:`bytes_kept`: 2 clips of 320 tokens, 2 heads x 32."""
    return kept_bytes(2, 320, 5, 64, 64, 4) + attention.kept_bytes(2, 2, 320, 32, 4)


@pytest.mark.parametrize("attention", [Dense(), SparseLinear(0.5, 8, 4, None)], ids=["dense", "sparse_linear"])
def test_the_estimate_is_what_the_selected_blocks_keep(attention):
    kept = [bytes_kept(SelectiveRecomputation(memory_gb=blocks * 1e-3), attention) for blocks in (0, 1000)]
    per_block = (kept[1] - kept[0]) / 3
    assert estimate(attention) == pytest.approx(per_block, rel=0.15)


def test_blocks_beyond_the_budget_keep_their_inputs_only():
    runners = SelectiveRecomputation(memory_gb=7.0).runners(4, 3 * 10**9)
    assert runners == [keep_products, keep_products, keep_inputs, keep_inputs]
    assert SelectiveRecomputation().runners(2, 10**12) == [keep_products] * 2
    assert SelectiveRecomputation(memory_gb=0.0).runners(2, 1) == [keep_inputs] * 2
    with pytest.raises(BadValue, match=r"memory_gb=-1\.0: expected a finite number >= 0"):
        SelectiveRecomputation(memory_gb=-1.0)


def test_the_large_model_keeps_90_gb_at_batch_2():
    block, sizes = kept_bytes(2, 32_760, 512, 1536, 8960, itemsize=2), (2, 12, 32_760, 128, 2)
    dense, sparse = (30 * (block + attention.kept_bytes(*sizes)) / 1e9 for attention in (Dense(), SparseLinear(0.1)))
    assert dense == pytest.approx(90, abs=1.5)
    assert sparse - dense == pytest.approx(6.1, abs=0.1)  # mostly the projected linear branch
