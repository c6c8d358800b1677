"""Backbones that get hypotheses as input and return gate logits."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from interp_refiner.model.backbone import (
    BracketingKeyframes,
    DroppedKeyframes,
    LoRA,
    MaskedKeyframes,
    PerFrame,
    Trajectory,
    Wan,
)
from tests.factories import spec_of
from tests.model.backbone.made import made
from tests.model.backbone.small_trajectory import SIZES, SPEC, path, perturbed
from tests.model.backbone.small_wan import SIZE, small_wan
from tests.three_laws import ThreeLaws, clip_of_three_laws, three_laws

MORE = {"num_hypotheses": 3, "outputs": 6}


def paths():
    """Corrupted paths on maps with three hypotheses."""
    clip = path()[0].clip
    return three_laws()(clip, "train")


KINDS = {
    "wan": (lambda: small_wan(**MORE), clip_of_three_laws, lambda model: model.second_head),
    "trajectory": (
        lambda: perturbed(made(Trajectory, SPEC, num_hypotheses=3, outputs=4, **SIZES)),
        paths,
        lambda model: model.head,
    ),
}
of_every_kind = pytest.mark.parametrize(("make", "clips", "head"), KINDS.values(), ids=KINDS)


@of_every_kind
def test_hypotheses_reach_the_output_which_has_logits_behind_the_latent_channels(make, clips, head):
    model, corrupted = make(), clips()
    output = model(corrupted)
    assert output.shape[1] == corrupted.x.shape[1] + 2
    for j in (1, 2):
        moved, trusted = corrupted.hypotheses.clone(), corrupted.present.clone()
        moved[:, j, :, 3:5] += 1.0
        trusted[:, j, 3:5] += 0.5
        for change in ({"hypotheses": moved}, {"present": trusted}):
            assert not torch.allclose(output, model(replace(corrupted, **change)), atol=1e-5), (j, change.keys())


@of_every_kind
def test_a_zero_head_has_zero_logits_that_learn(make, clips, head):
    model, corrupted = make(), clips()
    model.zero_output()
    output = model(corrupted)
    assert torch.equal(output, torch.zeros_like(output))
    output[:, corrupted.x.shape[1] :].sub(1).square().mean().backward()
    assert head(model).weight.grad.abs().max() > 0


def test_the_first_latent_channels_are_bit_for_bit_the_base_models_and_the_logits_zero():
    corrupted, timestep = clip_of_three_laws(), PerFrame()
    torch.manual_seed(0)
    model = made(Wan, spec_of(), timestep=timestep, **SIZE, **MORE)
    times = timestep.times(corrupted).repeat_interleave(2 * 3, 1)  # tokens per frame
    expected = model.wan(timestep.state(corrupted), times, corrupted.clip.text, return_dict=False)[0]
    output = model(corrupted)
    assert torch.equal(output[:, :4], expected)
    assert torch.equal(output[:, 4:], torch.zeros_like(output[:, 4:]))


def test_the_second_head_puts_every_logit_at_its_position():
    """A head whose weights are zero says its bias: one number per position of a patch and logit."""
    corrupted, model = clip_of_three_laws(), small_wan(**MORE)
    torch.nn.init.zeros_(model.second_head.weight)
    bias = torch.arange(8.0)
    model.second_head.bias.data.copy_(bias)
    rows, columns = torch.meshgrid(torch.arange(4) % 2, torch.arange(6) % 2, indexing="ij")
    for logit in range(2):
        expected = bias.view(2, 2, 2)[rows, columns, logit]
        assert torch.equal(model(corrupted)[:, 4 + logit], expected.expand(3, 21, 4, 6))


@pytest.mark.parametrize("channels", [MaskedKeyframes(), BracketingKeyframes()], ids=lambda c: type(c).__name__)
def test_the_channels_are_as_many_as_announced_and_end_with_the_hypotheses(channels):
    corrupted = clip_of_three_laws()
    shown = channels(corrupted)
    assert shown.shape[1] == channels.count(4, num_hypotheses=3)
    differences = (corrupted.hypotheses[:, 1:] - corrupted.interpolation.unsqueeze(1)).flatten(1, 2)
    assert torch.equal(shown[:, -10:-2], differences)
    assert torch.equal(shown[:, -2:], corrupted.present[:, 1:])
    alone = channels(replace(corrupted, hypotheses=None, present=None))
    assert torch.equal(shown[:, :-10], alone)
    assert alone.shape[1] == channels.count(4, num_hypotheses=1)


def test_dropped_keyframes_take_the_hypotheses_with_them():
    corrupted = clip_of_three_laws(batch=40)
    shown = DroppedKeyframes(probability=0.5)(corrupted)
    full, kept = MaskedKeyframes()(corrupted), shown.flatten(1).any(1)
    assert 5 < kept.sum() < 35
    assert torch.equal(shown[kept], full[kept])
    assert not shown[~kept].any()


def test_a_forward_pass_costs_what_torch_counts():
    corrupted, model = clip_of_three_laws(batch=2), small_wan(**MORE)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(corrupted)
    counted = model.flops(2, corrupted.clean.shape[1:], corrupted.clip.text.shape[1])
    assert counted.total == counter.get_total_flops()


def test_the_second_head_is_trained_beside_adapters():
    pytest.importorskip("peft")
    model = small_wan(lora=LoRA(rank=2), **MORE)
    assert model.second_head.weight.requires_grad
    assert not model.wan.proj_out.weight.requires_grad


def test_the_interpolator_of_these_tests_says_something_of_its_own():
    corrupted = clip_of_three_laws()
    assert corrupted.hypotheses.shape[1] == ThreeLaws.num_hypotheses
    moving = corrupted.present[:, 1:] > 0
    assert moving.any()
    assert not moving.transpose(1, 2)[corrupted.known].any()
