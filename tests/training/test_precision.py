"""The real optimizer steps in every precision; exact quantities stay exact."""

from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from itertools import cycle, product

import pytest
import torch

from interp_refiner.assemble import assemble
from interp_refiner.core import BadValue
from interp_refiner.data.codec import LatentPreview, PatchDCT
from interp_refiner.model.objective import Correction
from interp_refiner.model.sampler import Arc, Bridge, Hierarchical, OneJump
from interp_refiner.train import train
from interp_refiner.training import Refiner
from interp_refiner.training.optimizer import AdamW
from tests.config.small import small_config
from tests.factories import make_corruption, make_objective, random_clip, spec_of
from tests.helpers import group_members
from tests.model.backbone.small_wan import small_wan


@pytest.mark.parametrize(
    ("precision", "objective", "sampler"),
    [
        ("32-true", "correction", "bridge"),
        ("bf16-mixed", "velocity", "bridge"),
        ("bf16-true", "clean", "bridge"),
        ("bf16-true", "preconditioned", "bridge"),
        ("bf16-true", "energy_score", "one_jump"),
        ("bf16-true", "adjacent", "hierarchical"),
    ],
)
def test_every_precision_trains_and_validates(precision, objective, sampler, tmp_path):
    chosen = [f"trainer.precision={precision}", f"objective={objective}", f"sampler={sampler}"]
    assert train(small_config(tmp_path, "+experiment=toy_video", *chosen)) is None


@cache
def forward():
    return make_corruption("schedule.k_min=2", "schedule.num_levels=2")


SAMPLERS = {
    "one_jump": OneJump(),
    "hierarchical": Hierarchical(),
    "bridge": Bridge(3),
    "first_order": Bridge(2, order=1, eta=1.0),
    "arc": Bridge(3, eta=0.5, spacing=Arc(0.4)),
}


OBJECTIVES, PRECISIONS = group_members("objective"), ["float32", "bf16 autocast", "fp16 autocast"]


@pytest.mark.parametrize(
    ("objective", "precision"), [*zip(OBJECTIVES, cycle(PRECISIONS)), *((name, "bf16 weights") for name in OBJECTIVES)]
)
def test_given_frames_are_bit_for_bit_in_every_precision(objective, precision):
    check_given_frames(objective, precision)


@pytest.mark.soak
def test_given_frames_are_bit_for_bit_in_every_other_precision():
    for objective, precision in product(OBJECTIVES, PRECISIONS):
        check_given_frames(objective, precision)


def check_given_frames(objective, precision):
    """Clean estimates are float32 whatever the network is, so that its precision reaches no frame by another way."""
    half = torch.bfloat16 if precision == "bf16 weights" else torch.float32
    clip = random_clip(batch=2, frames=5, space=(8, 6))
    latents = clip.latents.clone()
    latents.view(-1)[::5] = -0.0
    corrupted = forward()(replace(clip, latents=latents.to(half), text=clip.text.to(half)), "val")
    model = Refiner(small_wan(num_layers=1), make_objective(objective, 2), AdamW(), Hierarchical(), forward())
    torch.nn.init.normal_(model.backbone.wan.proj_out.weight, std=0.1)  # not the zeros that some objectives start from
    model = model.to(half).eval()
    kind = {"bf16 autocast": torch.bfloat16, "fp16 autocast": torch.float16}.get(precision)
    with torch.no_grad(), torch.autocast("cpu", kind) if kind else nullcontext():
        assert model.clean_estimate(corrupted).dtype == torch.float32
        for name, model.sampler in SAMPLERS.items():
            if model.objective.estimates_finer and name != "hierarchical":
                continue
            sample = model.sample(corrupted)
            shown = model.validation_step(corrupted, 0)
            assert sample.dtype == half, name
            assert sample.isfinite().all(), name
            given = corrupted.given.unsqueeze(1).expand(-1, 4, -1)
            bits = [x[given].contiguous().view(torch.uint8) for x in (sample, shown, latents.to(half))]
            assert torch.equal(bits[0], bits[2]), name
            assert torch.equal(bits[1], bits[2]), name
            assert not torch.equal(sample, corrupted.interpolation), name
        assert all(value.isfinite() for value in model.validation_error.compute().values())


def test_level_errors_stay_exact_in_a_bfloat16_model():
    objective = Correction(spec_of(), 2)
    objective.level_error.counts += torch.tensor([0, 1001, 3])
    objective.level_error.totals += torch.tensor([0, 1.0 / 3, 3])
    before = objective.level_error.totals.clone()
    objective.to(torch.bfloat16)
    assert objective.level_error.counts.tolist() == [0, 1001, 3]
    assert torch.equal(objective.level_error.totals, before)


@pytest.mark.parametrize(
    ("option", "kind"), [("declared", PatchDCT), ("patch_dct", PatchDCT), ("latent_preview", LatentPreview)]
)
def test_every_codec_without_weights_takes_the_data_sets_statistics(option, kind, tmp_path):
    run = assemble(small_config(tmp_path, "+experiment=toy_video", f"codec={option}"))
    codec = run.codec
    assert isinstance(codec, kind)
    if kind is PatchDCT:
        torch.testing.assert_close(codec.latents_std.tolist(), run.spec.latents_std, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule=fixed", "schedule.frames=[0,3,12,19]"], "frames"),
        (["corruption.drawn.level=9"], "level=9"),
        (["schedule=dp", "interpolator=spline"], "spline|segment"),
        (["backbone.size.patch_size=[1,3,2]"], "divisible by 1 x 3 x 2"),
        (["backbone.size.attention_head_dim=33"], "attention_head_dim=33"),
        (["corruption=none", "sampler=bridge"], "sampler.steps=8"),
        (["optimizer.betas=[0.9]"], "betas"),
        (["data.reading.timeout=1e30"], r"timeout=1e\+30"),
        (["optimizer.weight_decay=-1.0"], "weight_decay=-1.0"),
        (["corruption/bridge_time=uniform", "scheduled_sampling=noisy"], "keyframe_fraction=0"),
    ],
)
def test_what_cannot_be_is_refused_before_training(overrides, message, tmp_path):
    with pytest.raises(BadValue, match=message):
        assemble(small_config(tmp_path, "+experiment=toy_video", *overrides))
