"""Shows true and generated keyframes of held-out captions after validation."""

from typing import Any, final

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only

from interp_refiner.core import Corrupted
from interp_refiner.evaluation.pictures.validation_video import ValidationVideo
from interp_refiner.training import KeyframeGenerator
from interp_refiner.training.keyframe_generator import keyframes_of, request_of


@final
class ValidationKeyframes(ValidationVideo):
    """Shows true and generated keyframes of the first held-out captions, at the sparsest level, after every validation.

    A generated clip is a different clip with the same caption. So compare only what the caption describes.

    See :class:`ValidationVideo` for the location of the pictures.

    Args:
        output_dir: the run folder.
        clips: number of clips.
    """

    def __init__(self, output_dir: str, clips: int = 4):
        super().__init__(output_dir, clips)

    @rank_zero_only
    @torch.no_grad()
    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, pl_module: KeyframeGenerator, outputs: Any, batch: Corrupted, *_: Any
    ) -> None:
        sparsest = (batch.level == batch.plan.num_levels).nonzero().flatten().tolist()
        rows = sparsest[: self.clips - len(self.kept)]
        if not rows:
            return
        keys = [batch.clip.keys[row] for row in rows]
        of = keyframes_of(batch, batch.known, int(batch.known[rows[0]].sum()), rows)
        made = pl_module.source()(request_of(of, batch.clip.num_frames), pl_module.draws(keys))
        for number, row in enumerate(rows):
            versions = {"truth": of.latents, "generated": made}
            prompt = batch.clip.prompts[row] if batch.clip.prompts else ""
            frames = ", ".join(map(str, of.positions[number].tolist()))
            self.kept.append(
                {
                    "versions": {
                        name: latents[number : number + 1].float().cpu() for name, latents in versions.items()
                    },
                    "known": torch.ones(of.positions.shape[1], dtype=torch.bool),
                    "clip": batch.clip.select([row]).to("cpu"),
                    "title": f"{keys[number]}  frames {frames}  {prompt}",
                }
            )
