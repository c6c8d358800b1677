"""Refuses, before any work, a config that needs GPUs or folders that the machine does not have."""

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from interp_refiner.config.writable import writable
from interp_refiner.core import BadValue, device

GPU = ("cuda", "gpu")


def check_machine(cfg: DictConfig) -> None:
    """Refuses GPUs that the machine does not have: ``device``, ``trainer.accelerator`` and ``trainer.devices``.

    Raises:
        BadValue: naming the setting.
    """
    if isinstance(place := cfg.get("device"), str):
        device(place)
    accelerator, devices = (OmegaConf.select(cfg, f"trainer.{name}") for name in ("accelerator", "devices"))
    if accelerator not in GPU:
        return
    if not torch.cuda.is_available():
        allowed = "auto or cpu (trainer=cpu, with any scale): this machine has no GPU that torch can use"
        raise BadValue("trainer.accelerator", accelerator, allowed)
    if isinstance(devices, int) and devices > (there := torch.cuda.device_count()):
        raise BadValue("trainer.devices", devices, f"at most {there}, the GPUs of this machine")


def check_output(cfg: DictConfig, output_dir: str) -> None:
    """Refuses a run folder that cannot be created, and names its setting.

    Raises:
        BadValue: naming ``paths.log_dir``, or Hydra's own setting where that was changed.
    """
    output, logs = Path(output_dir).absolute(), Path(str(OmegaConf.select(cfg, "paths.log_dir", default="")) or ".")
    inside = output.is_relative_to(logs.absolute())
    name, shown = ("paths.log_dir", logs) if inside else ("hydra.run.dir", output)
    try:
        writable(name, output)
    except BadValue as error:
        raise BadValue(name, shown, error.allowed) from None
