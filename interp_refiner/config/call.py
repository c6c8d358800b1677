"""Programs called by programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from omegaconf import DictConfig, open_dict

from interp_refiner.config.launch import Program


def compose(program: Program, *overrides: str) -> DictConfig:
    """The config of a program, with Hydra's own part; also inside another program, which notices nothing."""
    running, name = GlobalHydra.instance(), JobRuntime.instance().get("name")
    before, running.hydra = running.hydra, None
    try:
        with hydra.initialize_config_dir(str(program.conf_dir), version_base="1.3", job_name=program.config_name):
            return hydra.compose(program.config_name, list(overrides), return_hydra_config=True)
    finally:
        running.hydra = before
        JobRuntime.instance().set("name", name)


def call(entry_point: Callable, folder: Path, *overrides: str) -> Any:
    """Runs a program in this process as its command line would: composed, checked, then called.

    Args:
        entry_point: a function made by ``@main``.
        folder: what takes the place of its run folder.
        overrides: as on the command line.

    Returns:
        What the program returns.

    Raises:
        Exception: whatever its command line would be refused for.
    """
    program: Program = entry_point.program  # type: ignore[attr-defined]
    cfg = compose(program, *overrides, f"paths.output_dir={folder}")
    folder.mkdir(parents=True, exist_ok=True)
    program.check_before(cfg, str(folder))
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        with open_dict(cfg):
            del cfg["hydra"]
        return entry_point(cfg)
    finally:
        HydraConfig.instance().cfg = before
