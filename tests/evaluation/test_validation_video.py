"""Validation videos show another sampler's result with the same network, if requested."""

import lightning as L
import torch

from interp_refiner.evaluation import ValidationVideo
from interp_refiner.model.sampler import Bridge
from tests.evaluation.test_evaluator import make
from tests.factories import corrupted_clip

LEVEL = ["corruption.drawn.level=4", "corruption.sigma=0.4"]


@torch.no_grad()
def shown(tmp_path, sampler):
    """What the callback keeps of a batch at the sparsest level, and the batch."""
    batch, _, _ = corrupted_clip(*LEVEL)
    refiner = make(0.3, None, *LEVEL)
    video = ValidationVideo(str(tmp_path), clips=2, sampler=sampler)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    video.on_validation_epoch_start(trainer, refiner)
    video.on_validation_batch_end(trainer, refiner, refiner.sample(batch), batch, 0)
    return video.kept, refiner, batch


def test_a_sample_stands_beside_the_mean(tmp_path):
    kept, refiner, batch = shown(tmp_path, Bridge(steps=4))
    assert len(kept) == 2
    refiner.sampler = Bridge(steps=4)
    expected = refiner.sample(batch)
    for row, clip in enumerate(kept):
        assert list(clip["versions"]) == ["truth", "interpolation", "refined", "sample"]
        torch.testing.assert_close(clip["versions"]["sample"], expected[row : row + 1])
        assert not torch.equal(clip["versions"]["sample"], clip["versions"]["refined"])


def test_without_another_sampler_there_is_no_sample(tmp_path):
    kept, _, _ = shown(tmp_path, None)
    assert list(kept[0]["versions"]) == ["truth", "interpolation", "refined"]
