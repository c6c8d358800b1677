"""Held-out clips to look at: truth, interpolation and refinement side by side."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from interp_refiner.codec import Codec, add_video, contact_sheet, side_by_side, stacked, write_mp4
from interp_refiner.core import Corrupted

LABELS = ("truth", "interpolation", "refined")
FPS = 8.0  # slower than life: differences between frames are what one looks for


class ValidationVideo(L.Callback):
    """Decodes the first held-out clips of the sparsest level, with the data module's codec, after every validation.

    Writes ``samples/step_<n>.png`` (contact sheet) and ``samples/step_<n>.mp4`` in the run folder, and an animated
    picture per clip to TensorBoard.

    Args:
        output_dir: the run folder.
        clips: how many.
    """

    def __init__(self, output_dir: str, clips: int = 4):
        self.folder, self.clips = Path(output_dir) / "samples", clips
        self.kept: list[dict[str, Any]] = []

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.kept = []

    @rank_zero_only
    def on_validation_batch_end(  # type: ignore[override] # validation_step returns a tensor
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Tensor, batch: Corrupted, *_: Any
    ) -> None:
        if len(self.kept) >= self.clips:
            return
        sparsest = (batch.level == batch.plan.num_levels).tolist()
        for index in [i for i, chosen in enumerate(sparsest) if chosen][: self.clips - len(self.kept)]:
            one = slice(index, index + 1)
            self.kept.append(
                {
                    "latents": [v[one].float().cpu() for v in (batch.clean, batch.interpolation, outputs)],
                    "known": batch.known[index].cpu(),
                    "title": f"{batch.clip.keys[index]}  level {batch.plan.num_levels}  {_prompt(batch, index)}",
                }
            )

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        quick = trainer.sanity_checking or trainer.fast_dev_run  # type: ignore[attr-defined]
        if quick or not self.kept:
            return
        codec = trainer.datamodule.codec  # type: ignore[attr-defined]
        sheets, videos = [], []
        for number, clip in enumerate(self.kept):
            rows, keyframes = decode_rows(codec, clip["latents"], clip["known"])
            title = "  ".join(filter(None, [clip["title"], codec.caveat]))
            sheets.append(contact_sheet(rows, LABELS, keyframes, title))
            videos.append(side_by_side(rows, LABELS, keyframes, title))
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    add_video(logger.experiment, f"val/clip_{number}", videos[-1], trainer.global_step, FPS)
        self.folder.mkdir(parents=True, exist_ok=True)
        name = self.folder / f"step_{trainer.global_step:06d}"
        stacked(sheets).save(name.with_suffix(".png"))
        width = max(video.shape[2] for video in videos)
        padded = [torch.nn.functional.pad(v, (0, 0, 0, width - v.shape[2]), value=255) for v in videos]
        write_mp4(name.with_suffix(".mp4"), torch.cat(padded, 1), FPS)


def decode_rows(codec: Codec, latents: list[Tensor], known: Tensor) -> tuple[list[Tensor], Tensor]:
    """Decodes several versions of one clip alike, the first (the truth) setting the colours of a preview.

    Args:
        codec: the codec.
        latents: each ``[1, c, t, h, w]``.
        known: keyframes ``[t]``.

    Returns:
        Videos ``[3, T, H, W]`` and the keyframe mask over pixel frames ``[T]``.
    """
    fitted = codec.fitted_to(latents[0])
    with torch.no_grad():
        rows = [fitted.decode(version)[0] for version in latents]
    return rows, known[torch.tensor(fitted.latent_frame(len(known)))]


def _prompt(batch: Corrupted, index: int) -> str:
    return batch.clip.prompts[index] if batch.clip.prompts else ""
