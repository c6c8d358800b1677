"""Operations counted analytically, against stated figures and torch's own counter."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from interp_refiner.model.attention import SparseLinear
from interp_refiner.model.backbone import Convolutions, Global, Interface, LoRA, PerFrame
from tests.factories import spec_of
from tests.helpers import build
from tests.model.backbone.small_wan import clip, small_wan


def large(attention=None):
    with torch.device("meta"):
        model = build("backbone", "wan_1_3b", interface=Interface(spec_of(16, text_dim=4096)), attention=attention)
    return model.flops(2, (16, 21, 60, 104), 512).executed


def test_kernels_of_a_full_fine_tuning_step_execute_what_the_design_says():
    step = large()
    assert step.linear / 1e12 == pytest.approx(492.6, abs=0.5)
    assert step.self_attention / 1e12 == pytest.approx(1384.7, abs=0.1)
    assert step.cross_attention / 1e12 == pytest.approx(21.6, abs=0.1)


def test_sparse_attention_costs_its_share_and_a_small_linear_branch():
    dense, sparse = large(), large(SparseLinear(0.1))
    assert sparse.self_attention / dense.self_attention == pytest.approx(26 / 256)  # 10% of 256 blocks, rounded
    assert 1 < sparse.linear / dense.linear < 1.05
    assert sparse.cross_attention == dense.cross_attention


@pytest.mark.parametrize(
    "part",
    [{"timestep": Global()}, {"timestep": PerFrame()}, {"convolutions": Convolutions(dim=8)}, {"word_reach": 2}],
    ids=["global", "per_frame", "convolutions", "words"],
)
def test_a_forward_pass_costs_what_torch_counts(part):
    corrupted, model = clip(), small_wan(**part)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(corrupted)
    counted = model.flops(2, corrupted.clean.shape[1:], corrupted.clip.text.shape[1])
    assert counted.total == counter.get_total_flops()


def test_frozen_weights_take_no_gradient():
    corrupted, full, model = clip(), small_wan(), small_wan(lora=LoRA(rank=3))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = model(corrupted).sum()
        forward = counter.get_total_flops()
        loss.backward()
    sizes = 2, corrupted.clean.shape[1:], corrupted.clip.text.shape[1]
    flops, whole = model.flops(*sizes), full.flops(*sizes)
    assert flops.total == forward
    assert counter.get_total_flops() == pytest.approx(flops.training.total, rel=0.03)
    assert flops.training.total < 0.85 * whole.training.total < whole.training.total


def test_a_training_step_costs_what_torch_counts_and_kernels_execute_the_scores_again():
    """torch's counter sees no recomputed scores here, and no gradient to what needs none."""
    corrupted, model = clip(), small_wan()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(corrupted).sum().backward()
    flops = model.flops(2, corrupted.clean.shape[1:], corrupted.clip.text.shape[1])
    assert counter.get_total_flops() == pytest.approx(flops.training.total, rel=0.03)
    assert flops.training.total == 3 * flops.total
    again = 0.5 * (flops.self_attention + flops.cross_attention)
    assert flops.executed.total - flops.training.total == pytest.approx(again)
