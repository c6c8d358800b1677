"""Recomputation changes what is kept, and nothing else."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from interp_refiner.attention import SparseLinear
from interp_refiner.backbone import FullRecomputation, NoRecomputation, SelectiveRecomputation
from interp_refiner.backbone.recomputation import keep_inputs, keep_products, kept_bytes
from interp_refiner.core import BadValue
from tests.backbone.small_wan import clip, loss_and_gradients, small_wan

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


def bytes_kept(recomputation):
    """What a forward pass allocated and did not free, as the profiler counts it."""
    model, corrupted = small_wan(recomputation=recomputation), clip(space=(16, 16))
    model(corrupted).sum().backward()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        output = model(corrupted)
    assert output.requires_grad
    return sum(event.self_cpu_memory_usage for event in profiler.key_averages())


def test_less_is_kept_the_more_is_recomputed():
    kept = {name: bytes_kept(mode) for name, mode in MODES.items()}
    assert kept["none"] > 1.5 * kept["selective"]
    assert kept["selective"] > 1.2 * kept["full"] > 0
    budget = bytes_kept(SelectiveRecomputation(memory_gb=kept_bytes(2, 320, 5, 64, 64, 4) * 1.5 / 1e9))  # one block
    assert kept["selective"] > budget > kept["full"]


def test_the_estimate_is_what_the_selected_blocks_keep():
    kept = [bytes_kept(SelectiveRecomputation(memory_gb=blocks * 1e-3)) for blocks in (0, 1000)]
    per_block = (kept[1] - kept[0]) / 3
    assert kept_bytes(2, 320, 5, 64, 64, 4) == pytest.approx(per_block, rel=0.15)


def test_blocks_beyond_the_budget_keep_their_inputs_only():
    runners = SelectiveRecomputation(memory_gb=7.0).runners(4, 3 * 10**9)
    assert runners == [keep_products, keep_products, keep_inputs, keep_inputs]
    assert SelectiveRecomputation().runners(2, 10**12) == [keep_products] * 2
    assert SelectiveRecomputation(memory_gb=0.0).runners(2, 1) == [keep_inputs] * 2
    with pytest.raises(BadValue, match=r"memory_gb=-1\.0: expected gigabytes >= 0"):
        SelectiveRecomputation(memory_gb=-1.0)


def test_the_large_model_keeps_90_gb_at_batch_2():
    per_block = kept_bytes(2, 32_760, 512, 1536, 8960, itemsize=2)
    assert 30 * per_block / 1e9 == pytest.approx(90, abs=1.5)
