"""Renders a user's own storyboards as videos during training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import lightning as L

from interp_refiner.core import BadValue
from interp_refiner.data.codec import write_mp4
from interp_refiner.data.text import TextEncoder, declared_text_encoder
from interp_refiner.evaluation import log_picture, log_video
from interp_refiner.storyboard.file.storyboard import ENTRIES, Storyboard, load_storyboard, naming
from interp_refiner.storyboard.pipeline.arguments import Request
from interp_refiner.storyboard.pipeline.pipeline import RefinerPipeline
from interp_refiner.storyboard.sampling.report import storyboard_sheet
from interp_refiner.storyboard.sampling.video import read_board
from interp_refiner.storyboard.saved.components import Components, PipelineConfig
from interp_refiner.training import Refiner

KEY = "validation.storyboards"


@final
class ValidationStoryboards(L.Callback):
    """Makes the videos of storyboards at validations, with validation's (averaged) weights and always the same noise.

    Each is written to ``samples/`` in the run folder as ``<name>_step_<n>.mp4`` and as a contact sheet (``.png``), and
    shown in TensorBoard and wandb as ``storyboard/<name>`` and ``storyboard/<name>_sheet``. All processes compute them,
    because the weights may be sharded; only the first one writes.

    Args:
        output_dir: the run folder.
        storyboards: their files, see :mod:`interp_refiner.storyboard.file.storyboard`; may be empty.
        steps: training steps, each 1 or more. The videos are made at the first validation at or after each of them,
            also in a continued run. Empty: at every validation.
        seed: of their noise.
        text: encodes their prompts; None for the encoder that the data set declares, if it needs no weights.

    Raises:
        BadValue: a file that is not a storyboard, two with one name, or a step below 1; at the start of training, one
            that does not fit.
    """

    def __init__(
        self,
        output_dir: str,
        storyboards: Sequence[str] = (),
        steps: Sequence[int] = (),
        seed: int = 0,
        text: TextEncoder | None = None,
    ):
        self.folder, self.seed, self.text = Path(output_dir) / "samples", seed, text
        self.boards: dict[str, Storyboard] = {}
        for file in storyboards:
            with naming(KEY, "storyboard"):
                board = load_storyboard(file)
            if (name := Path(file).stem) in self.boards:
                raise BadValue(KEY, file, f"storyboards with different names: two are called {name}")
            self.boards[name] = board
        if any(step < 1 for step in steps):
            allowed = "steps of training, 1 or more: the first validation follows the first step"
            raise BadValue("validation.steps", list(steps), allowed)
        self.steps, self.seen = tuple(steps), -1  # the step of the last validation; -1: there was none
        self.requests: dict[str, tuple[Request, list[str]]] = {}  # files may change during training

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuses a storyboard that does not fit the model, before training."""
        if not self.boards:
            return
        pipeline = self.pipeline(trainer, pl_module)
        for name, board in self.boards.items():
            with naming(f"{KEY}.{name}", only=ENTRIES):
                request, _ = self.requests[name] = read_board(pipeline, board, self.seed)
                pipeline.planned(request)
                pipeline.embed([board.prompt, *(keyframe.prompt or "" for keyframe in request.keyframes)])

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Makes the videos; at this point the module still has its averaged weights."""
        if not self.boards or trainer.sanity_checking or not self._is_due(trainer.global_step):
            return
        pipeline = self.pipeline(trainer, pl_module)
        for name, board in self.boards.items():
            request, _ = self.requests.get(name) or read_board(pipeline, board, self.seed)
            with trainer.precision_plugin.forward_context():
                result = pipeline.make(request, output_type="pt")
            if not trainer.is_global_zero:
                continue
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / f"{name}_step_{trainer.global_step:06d}.mp4"
            write_mp4(file, result.frames, result.plan.fps)
            interpolation = pipeline.decode(result.interpolation, like=result.latents)
            sheet = storyboard_sheet(result, result.frames, interpolation, f"{name}   step {trainer.global_step}")
            sheet.save(file.with_suffix(".png"))
            tag, step = f"storyboard/{name}", trainer.global_step
            log_video(trainer.loggers, tag, result.frames, step, result.plan.fps, file)
            log_picture(trainer.loggers, f"{tag}_sheet", sheet, step)

    def state_dict(self) -> dict[str, int]:
        return {"seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continues: a step whose validation a stopped run did not reach is still due."""
        self.seen = state_dict["seen"]

    def _is_due(self, step: int) -> bool:
        """Whether this is the first validation at or after one of the steps; once for every step of training."""
        before, self.seen = self.seen, step
        return before < step and (not self.steps or any(before < wanted <= step for wanted in self.steps))

    def pipeline(self, trainer: L.Trainer, pl_module: L.LightningModule) -> RefinerPipeline:
        """The module's own networks as a pipeline; raises :class:`BadValue` if it is not a video refiner."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, Refiner) or len(data.spec.latent_shape) != 4:
            raise BadValue(KEY, list(self.boards), "none: no refiner of videos is trained")
        parts = Components(
            backbone=pl_module.backbone,
            objective=pl_module.objective,
            sampler=pl_module.sampler,
            corruption=pl_module.corruption,
            codec=data.codec,
            text=self.text or _declared(data.spec),
        )
        modes = {module: module.training for module in pl_module.modules()}
        pipeline = RefinerPipeline(parts, PipelineConfig(data.spec, {}))
        for module, training in modes.items():
            module.training = training
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(pl_module.device)


def _declared(spec: Any) -> TextEncoder | None:
    """The encoder that the data set declares; None if there are no prompts or it needs weights."""
    try:
        return declared_text_encoder(spec)
    except BadValue:
        return None
