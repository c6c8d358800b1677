"""The picture of README.md: ``python experiments/distillation/sheet.py <data root>``, two clips at 5 keyframes."""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from interp_refiner import load_run
from interp_refiner.core import Draws
from interp_refiner.data.codec import contact_sheet, stacked
from interp_refiner.evaluation.run.notebook import config
from interp_refiner.model.sampler import Bridge

LABELS = ("truth", "base", "mean", "16 steps", "one step")
CLIPS = (0, 2)  # in the order of the held-out clips


@torch.no_grad()
def main(root: str) -> None:
    """Writes ``clips.png``."""
    held_out = {"data.root": root, "data.writer.num_train": 3000, "data.writer.num_val": 256}
    run = load_run("shipped_one_step", overrides={"data": config().data, **held_out})
    teacher, medium = load_run("shipped").refiner, run.medium
    batch = next(iter(run.data.validating(max(CLIPS) + 1, 2 * (max(CLIPS) + 1)).val_dataloader()))
    whole = replace(batch, latents=batch.latents.float(), text=batch.text.float())
    start = teacher.corruption(whole.select((whole.level == 2).nonzero().flatten()[list(CLIPS)].tolist()), "val")
    draws = Draws(0, "val", start.clip.keys)
    mean, one = (start.keep_given(model.clean_estimate(start)) for model in (teacher, run.refiner))
    many = Bridge(16, order=1)(teacher.clean_estimate, start, draws, teacher.corruption)
    videos = [medium.views(clip)["pixels"] for clip in (start.clean, start.interpolation, mean, many, one)]
    sheets = [
        contact_sheet([video[i] for video in videos], LABELS, start.known[i], title=start.clip.keys[i])
        for i in range(len(CLIPS))
    ]
    stacked(sheets).save(Path(__file__).with_name("clips.png"), optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
