"""The real optimizer steps in every precision, and what must stay exact stays exact."""

import pytest
import torch

from interp_refiner.assemble import assemble, build_codec
from interp_refiner.core import BadValue
from interp_refiner.data.codec import LatentPreview, PatchDCT
from interp_refiner.model.objective import Correction
from interp_refiner.train import train
from tests.config.small import small_config


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("objective", ["correction", "velocity"])
def test_every_precision_trains_and_validates(precision, objective, tmp_path):
    cfg = small_config(
        tmp_path, "+experiment=toy_video", f"trainer.precision={precision}", f"objective={objective}", "sampler=bridge"
    )
    assert train(cfg) is None


def test_level_errors_stay_exact_in_a_bfloat16_model():
    objective = Correction(num_levels=2)
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
    codec = build_codec(run.config.codec, run.data)
    assert isinstance(codec, kind)
    if kind is PatchDCT:
        torch.testing.assert_close(codec.latents_std.tolist(), run.data.metadata.latents_std, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule=fixed", "schedule.frames=[0,3,12,19]"], "frames"),
        (["corruption.level=9"], "level=9"),
        (["schedule=dp", "interpolator=spline"], "spline|segment"),
        (["backbone.patch_size=[1,3,2]"], "divisible by 1 x 3 x 2"),
        (["backbone.attention_head_dim=33"], "attention_head_dim=33"),
        (["corruption=none", "sampler=bridge"], "sampler.steps=4"),
        (["optimizer.betas=[0.9]"], "betas"),
        (["optimizer.weight_decay=-1.0"], "weight_decay=-1.0"),
        (["corruption/bridge_time=uniform", "scheduled_sampling=noisy"], "keyframe_fraction=0"),
    ],
)
def test_what_cannot_be_is_refused_before_training(overrides, message, tmp_path):
    with pytest.raises(BadValue, match=message):
        assemble(small_config(tmp_path, "+experiment=toy_video", *overrides))
