"""Validation videos show another sampler's result with the same network, if requested."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch
from PIL import Image

from interp_refiner.data.codec import count_frames
from interp_refiner.evaluation import ValidationVideo
from interp_refiner.evaluation.pictures import validation_video
from interp_refiner.model.sampler import Bridge
from tests.evaluation.evaluator.test_evaluator import make
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


class PlainMedium:
    """Shows a clip as it is given."""

    def film(self, video):
        return video

    def sheet(self, video):
        return Image.new("RGB", (4, 4))


@pytest.mark.parametrize("sizes", [[(5, 16, 32), (3, 16, 16)], [(3, 16, 16), (5, 32, 32), (4, 16, 16)]])
def test_clips_of_several_lengths_and_sizes_are_one_video(tmp_path, monkeypatch, sizes):
    videos = [torch.randint(0, 255, (*size, 3), dtype=torch.uint8) for size in sizes]
    written, write = [], validation_video.write_mp4
    monkeypatch.setattr(validation_video, "write_mp4", lambda *given: written.append(given[1]) or write(*given))
    shown = ValidationVideo(str(tmp_path))
    shown.kept = [{"video": video} for video in videos]
    data = SimpleNamespace(medium=PlainMedium())
    shown.on_validation_end(
        SimpleNamespace(sanity_checking=False, fast_dev_run=False, datamodule=data, loggers=[], global_step=7), None
    )
    (film,), top = written, 0
    assert count_frames(tmp_path / "samples/step_000007.mp4") == len(film) == 5
    for video in videos:
        frames, height, width, _ = video.shape
        row = film[:, top : top + height]
        assert torch.equal(row[:frames, :, :width], video)
        assert bool((row[frames:, :, :width] == video[-1]).all() and (row[:, :, width:] == 255).all())
        top += height
    assert top == film.shape[1]
