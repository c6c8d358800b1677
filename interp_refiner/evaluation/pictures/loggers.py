"""Logs videos and pictures to TensorBoard and Weights & Biases; other loggers are ignored."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from PIL import Image

from interp_refiner.data.codec import add_video


def log_video(loggers: Iterable[Logger], tag: str, video: Any, step: int, fps: float, file: Path) -> None:
    """Logs a video under a tag.

    Args:
        loggers: of the trainer.
        tag: its name in the loggers.
        video: ``[3, t, h, w]`` in 0..1, or bytes; TensorBoard shows it as an animated picture.
        step: of training.
        fps: frames per second.
        file: the same video as an mp4, which wandb copies.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            add_video(logger.experiment, tag, video, step, fps)
        elif isinstance(logger, WandbLogger):
            logger.log_video(tag, [str(file)], step=step, format=["mp4"])


def log_picture(loggers: Iterable[Logger], tag: str, picture: Image.Image, step: int) -> None:
    """Logs a picture under a tag."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(tag, [picture], step=step)
