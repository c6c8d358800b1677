"""Helpers for the notebooks: a run, a sweep, clips with any forward process, and a player.

``INTERP_REFINER_CHECKPOINT`` names the run (a run folder or a checkpoint file); the default is the model in the
package. ``INTERP_REFINER_SWEEP`` names the sweep; by default a tiny one is made once, in about a minute.
"""

import base64
import functools
import html
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import lightning as L
import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from ipywidgets import HTML, DOMWidget, Image, VBox, Widget
from omegaconf import DictConfig
from torch import Tensor

from interp_refiner.config import build, conf_dir
from interp_refiner.core import Clip, Corrupted
from interp_refiner.data import EVALUATION_STREAM
from interp_refiner.data.codec import Codec, gif_bytes
from interp_refiner.data.medium import Medium
from interp_refiner.evaluation.run.run import Run
from interp_refiner.training.checkpoint import SHIPPED
from interp_refiner.training.missing_frame import FIGURES, level_rows

TINY = (
    "+experiment=toy_video",
    "callback.validation_video=null",
    "trainer.enable_model_summary=false",
    "log_book=null",
)


def config(*overrides: str, program: str = "train") -> DictConfig:
    """The config of a program with overrides, as on its command line."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(program, list(overrides))


def chosen_run() -> tuple[str, dict[str, DictConfig]]:
    """The run's path, and the overrides for ``load_run(path, overrides=overrides)``.

    ``$INTERP_REFINER_CHECKPOINT``, else the weights in the package, with the embedded clips.
    """
    if chosen := os.environ.get("INTERP_REFINER_CHECKPOINT"):
        return chosen, {}
    return SHIPPED, {"data": config().data}


def swept_runs() -> Path:
    """The sweep's folder: ``$INTERP_REFINER_SWEEP``, else a tiny sweep over corruptions, made now if it is missing."""
    if chosen := os.environ.get("INTERP_REFINER_SWEEP"):
        return Path(chosen).expanduser()
    folder = Path(config().paths.log_dir) / "notebook" / "sweep"
    if not (folder / "multirun.yaml").exists():
        grid = (
            "corruption=none,dist,gauss",
            "corruption.sigma=0.1,0.3",
            "trainer.max_steps=20",
            "trainer.val_check_interval=20",
            "trainer.log_every_n_steps=1",
        )
        _train("-m", *TINY, *grid, f"hydra.sweep.dir={folder}")
    return folder


def _train(*arguments: str) -> None:
    """Trains in a separate process; shows its output only if it fails."""
    done = subprocess.run([sys.executable, "-m", "interp_refiner.train", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"training ended with exit code {done.returncode}: {done.stderr[-2000:]}")


def held_out_clips(run: Run, count: int) -> Clip:
    """The first held-out clips of a run, clean, in float32."""
    clip = next(iter(run.data.validating(count, count * run.num_levels).val_dataloader()))
    levels = clip.level.tolist() if clip.level is not None else []
    once = clip.select([row for row, level in enumerate(levels) if level == 1])
    return replace(once, latents=once.latents.float(), level=None)


@functools.cache
def _forward_process(*overrides: str) -> DictConfig:
    """The composed config, cached because composing takes long."""
    return config(*overrides).corruption


def corrupted(clip: Clip, codec: Codec, *overrides: str, level: int | None = None) -> Corrupted:
    """Corrupts clips as the overrides say: ``schedule=dp corruption=gauss corruption.sigma=0.5``.

    Args:
        clip: the clean clips.
        codec: of its latents.
        overrides: of ``interp_refiner.train``.
        level: of sparsity; None for the sparsest.
    """
    node = _forward_process(*overrides)
    corruption = build(node).with_codec(codec)
    sparsest = corruption.num_levels(clip.num_frames)
    levels = torch.full((clip.batch_size,), min(level or sparsest, sparsest))
    return corruption(replace(clip, level=levels), EVALUATION_STREAM)


def errors_by_level(run: Run, count: int = 16) -> pd.DataFrame:
    """Validation results on the first held-out clips: one row per level and one for the mean over levels."""
    chatter = logging.getLogger("lightning.pytorch")
    before, chatter.level = chatter.level, logging.WARNING  # a notebook shows log messages in red
    try:
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
        (metrics,) = trainer.validate(run.module, datamodule=run.data.validating(count), verbose=False)
    finally:
        chatter.level = before
    return pd.DataFrame(level_rows(metrics)).T[[measure.name for measure in FIGURES]]


@dataclass(frozen=True)
class Animation:
    """An animated picture for notebooks, as HTML, because nbconvert drops ``image/gif``."""

    gif: bytes

    def _repr_html_(self) -> str:
        return f'<img src="data:image/gif;base64,{base64.b64encode(self.gif).decode()}">'


def play(
    medium: Medium, versions: Mapping[str, Tensor], corrupted: Corrupted, title: str = "", fps: float = 8.0
) -> Animation:
    """Versions of one clip side by side, as an animated picture; keyframes have an orange border.

    Args:
        medium: of the run's clips, ``run.medium``.
        versions: by name, each ``[1, c, t, *space]``; the first is the truth.
        corrupted: the same clip, for its keyframes.
        title: text at the top.
        fps: frames per second.
    """
    shown = {name: value.detach().float().cpu() for name, value in versions.items()}
    film = medium.film(shown, corrupted.known[0].cpu(), corrupted.clip.select([0]).to("cpu"), title)
    return Animation(gif_bytes(film, fps))


def steered(show: Callable[..., tuple[Animation, str]], **controls: Widget) -> DOMWidget:
    """Controls with a picture and a caption below that are updated with them.

    ``interact`` of ipywidgets does the same with an ``Output`` widget, but ``jupyter execute`` would hang: nbclient
    answers changes of an ``Output`` on the socket on which it waits for the end of the cell, and misses that end.

    Args:
        show: called with the controls' values by name; returns the picture and its caption.
        controls: by the name of the argument that they set.
    """
    picture, caption = Image(format="gif"), HTML()

    def draw() -> None:
        animation, text = show(**{name: control.value for name, control in controls.items()})
        picture.value, caption.value = animation.gif, html.escape(text)

    def redraw(_: object) -> None:
        try:
            draw()
        except Exception as error:  # the stack trace of a callback is not shown
            caption.value = html.escape(f"{type(error).__name__}: {error}")

    draw()
    for control in controls.values():
        control.observe(redraw, "value")
    return VBox([*controls.values(), picture, caption])
