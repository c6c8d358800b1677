"""A refiner that chooses among hypotheses, from its config to a run folder and an exported one."""

import pytest
import torch

from interp_refiner.assemble import assemble, load_run
from interp_refiner.config import save_config
from interp_refiner.core import BadValue
from interp_refiner.storyboard import RefinerPipeline, as_pipeline
from interp_refiner.training.checkpoint import LAST_CHECKPOINT
from tests.config.small import small_config
from tests.factories import random_clip

CHOOSES = ["+experiment=toy_video", "interpolator=motion_hypotheses_pixels", "objective=preconditioned"]
SIZE = ["data.writer.num_train=2", "data.writer.num_val=2", "backbone.size.num_layers=1", "objective.gate.groups=2"]


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    return small_config(tmp_path_factory.mktemp("hypotheses"), *CHOOSES, *SIZE)


@pytest.fixture(scope="module")
def corrupted(cfg):
    corruption = assemble(cfg).data.corruption
    made = corruption(random_clip(channels=16, text=None), "val")
    assert made.hypotheses.shape[1] == 4
    return made


def test_it_starts_as_the_interpolation_and_run_and_export_give_what_was_trained(cfg, corrupted, tmp_path):
    run = assemble(cfg)
    untrained = run.refiner.sample(corrupted)
    torch.testing.assert_close(untrained, corrupted.interpolation, atol=1e-5, rtol=0)
    with torch.no_grad():
        for weight in run.refiner.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    expected = run.refiner.clean_estimate(corrupted)
    assert run.refiner.backbone(corrupted).shape[1] == 16 + 3 * 2
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    save_config(cfg, tmp_path / "run")
    torch.save({"state_dict": run.refiner.state_dict()}, tmp_path / "run" / LAST_CHECKPOINT)
    loaded = load_run(tmp_path / "run")
    assert torch.equal(loaded.refiner.clean_estimate(corrupted), expected)
    again = RefinerPipeline.from_pretrained(as_pipeline(loaded).save_pretrained(tmp_path / "exported"))
    assert torch.equal(again.clean_estimate(corrupted), expected)
    made = again.corruption(corrupted.clip, "val")
    assert torch.equal(made.hypotheses, corrupted.hypotheses)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective=velocity"], r"objective=Velocity: expected correction \| preconditioned .* 4 hypotheses"),
        (["objective=clean"], r"objective=Clean: expected correction \| preconditioned .* 4 hypotheses"),
        (["objective.gate.groups=3"], r"objective\.gate\.groups=3: expected a divisor of the 16 latent channels"),
    ],
)
def test_what_cannot_choose_is_refused_before_training(overrides, message, tmp_path):
    kept = [value for value in (*CHOOSES, *SIZE) if overrides[0].partition("=")[0] not in value]
    if overrides[0].startswith("objective="):
        kept = [value for value in kept if not value.startswith("objective.gate")]
    with pytest.raises(BadValue, match=message):
        assemble(small_config(tmp_path, *kept, *overrides))
