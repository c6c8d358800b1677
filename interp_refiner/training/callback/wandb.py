"""Weights & Biases as a logger."""

from collections.abc import Sequence
from importlib.util import find_spec

from lightning.pytorch.loggers import WandbLogger

from interp_refiner.core import MissingExtra


def wandb_logger(
    save_dir: str,
    project: str = "interp_refiner",
    name: str | None = None,
    offline: bool = True,
    tags: Sequence[str] = (),
) -> WandbLogger:
    """Lightning's logger for Weights & Biases.

    Args:
        save_dir: parent of the folder ``wandb``.
        project: the run's project.
        name: the run's name; None lets wandb choose one.
        offline: whether to write files without a network; ``wandb sync`` uploads them later.
        tags: the run's tags.

    Raises:
        MissingExtra: wandb is not installed.
    """
    if find_spec("wandb") is None:
        raise MissingExtra("logger=wandb", "wandb", "wandb")
    return WandbLogger(name=name, save_dir=save_dir, project=project, offline=offline, tags=list(tags))
