"""Configs of runs that take a second or two."""

from pathlib import Path

from omegaconf import DictConfig

from tests.helpers import composed

QUICK = [
    "debug=fast_dev_run",
    "trainer=cpu",
    "data.writer.num_train=16",
    "data.writer.num_val=4",
    "trainer.detect_anomaly=false",
]
SMALL = [*QUICK, "data.writer.height=16", "data.writer.width=24"]  # of clips


def small_config(folder: Path, *overrides: str) -> DictConfig:
    """A training config for two batches of a few small clips, everything written below ``folder``."""
    return composed("train", *SMALL, *overrides, root=folder, output_dir=folder / "run")
