"""Shows held-out clips after validation: truth, interpolation, refinement and optionally a sample, side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from interp_refiner.core import Corrupted, Draws
from interp_refiner.data.codec import add_video, stacked, write_mp4
from interp_refiner.data.medium import Medium
from interp_refiner.evaluation.measures import keyframe_report
from interp_refiner.evaluation.pictures.loggers import log_picture, log_video
from interp_refiner.model.sampler import Sampler

LABELS = ("truth", "interpolation", "refined")
FPS = 8.0  # slower than life: differences between frames are what one looks for


class ValidationVideo(L.Callback):
    """Shows the first held-out clips at the sparsest level after every validation, with the data module's medium.

    Writes ``samples/step_<n>.png`` (contact sheet), ``samples/step_<n>.mp4`` and ``samples/step_<n>.json`` (the
    keyframe contract) in the run folder, an animated picture per clip to TensorBoard, and video and sheet to wandb.

    Args:
        output_dir: the run folder.
        clips: number of clips.
        sampler: makes an additional version, ``sample``, besides that of the module's own sampler; None for none.
    """

    def __init__(self, output_dir: str, clips: int = 4, sampler: Sampler | None = None):
        self.folder, self.clips, self.sampler = Path(output_dir) / "samples", clips, sampler
        self.kept: list[dict[str, Any]] = []
        self.contract: dict[str, list[dict[str, Any]]] = {}

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.kept, self.contract = [], {}

    @rank_zero_only
    def on_validation_batch_end(  # type: ignore[override] # validation_step returns a tensor
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Tensor, batch: Corrupted, *_: Any
    ) -> None:
        if len(self.kept) >= self.clips:
            return
        sparsest = (batch.level == batch.plan.num_levels).tolist()
        if not any(sparsest):
            return
        versions = dict(zip(LABELS, (batch.clean, batch.interpolation, outputs), strict=True))
        if self.sampler is not None:
            versions["sample"] = self.sample(pl_module, self.sampler, batch)
        for index in [i for i, chosen in enumerate(sparsest) if chosen][: self.clips - len(self.kept)]:
            one = slice(index, index + 1)
            report = keyframe_report(outputs[one], batch.values[one], batch.known[one])
            self.contract[batch.clip.keys[index]] = report.records()[0]
            self.kept.append(
                {
                    "versions": {name: clips[one].float().cpu() for name, clips in versions.items()},
                    "known": batch.known[index].cpu(),
                    "clip": batch.clip.select([index]).to("cpu"),
                    "title": f"{batch.clip.keys[index]}  level {batch.plan.num_levels}  {_prompt(batch, index)}",
                }
            )

    @staticmethod
    @torch.no_grad()
    def sample(refiner: Any, sampler: Sampler, batch: Corrupted) -> Tensor:
        """The clips that another sampler makes with the same network."""
        draws = Draws(refiner.corruption.seed, "sample", batch.clip.keys)
        return sampler(refiner.clean_estimate, batch, draws, refiner.corruption)

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        quick = trainer.sanity_checking or trainer.fast_dev_run  # type: ignore[attr-defined]
        if quick or not self.kept:
            return
        medium: Medium = trainer.datamodule.medium  # type: ignore[attr-defined]
        sheets, videos = [], []
        for number, clip in enumerate(self.kept):
            sheets.append(medium.sheet(**clip))
            videos.append(medium.film(**clip))
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    add_video(logger.experiment, f"val/clip_{number}", videos[-1], trainer.global_step, FPS)
        self.folder.mkdir(parents=True, exist_ok=True)
        name = self.folder / f"step_{trainer.global_step:06d}"
        (sheet := stacked(sheets)).save(name.with_suffix(".png"))
        name.with_suffix(".json").write_text(json.dumps(self.contract, indent=1) + "\n")
        film, file = _one_below_another(videos), name.with_suffix(".mp4")
        write_mp4(file, film, FPS)
        wandb = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        log_video(wandb, "val/clips", film, trainer.global_step, FPS, file)
        log_picture(wandb, "val/clips_sheet", sheet, trainer.global_step)


def _one_below_another(videos: Sequence[Tensor]) -> Tensor:
    """Videos ``[n, h, w, 3]`` as one; a narrower one has white beside it, a shorter one stops at its last frame."""
    frames, width = (max(video.shape[axis] for video in videos) for axis in (0, 2))
    lasting = (torch.cat([v, v[-1:].expand(frames - len(v), -1, -1, -1)]) for v in videos)
    return torch.cat([torch.nn.functional.pad(v, (0, 0, 0, width - v.shape[2]), value=255) for v in lasting], 1)


def _prompt(batch: Corrupted, index: int) -> str:
    return batch.clip.prompts[index] if batch.clip.prompts else ""
