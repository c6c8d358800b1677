"""Configs of runs that take a second or two."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from tests.helpers import CONF

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
    places = [f"paths.root={folder}", f"paths.output_dir={folder / 'run'}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[*SMALL, *overrides, *places], return_hydra_config=True)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg
