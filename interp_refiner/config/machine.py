"""Refuses, before any work, GPUs that the machine does not have, and paths that cannot be written to."""

import os
import tempfile
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from interp_refiner.core import BadValue, device

GPU = ("cuda", "gpu")


def check_machine(cfg: DictConfig) -> None:
    """Refuses GPUs that the machine does not have.

    Raises:
        BadValue: naming ``device``, ``trainer.accelerator`` or ``trainer.devices``.
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


def writable(name: str, path: Path) -> Path:
    """Returns ``path`` if a file or folder of that name, and the folders above it, can be written.

    Raises:
        BadValue: of the setting ``name``: there is a file where a folder has to be, or the folder is not writable.
    """
    try:
        folder = path if path.is_dir() else next(above for above in path.absolute().parents if os.path.lexists(above))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadValue(name, path, f"a writable place: {error.strerror}") from None
    return path


def writable_folder(name: str, path: Path) -> Path:
    """:func:`writable`, for a folder: it may be there already, but not as a file."""
    if path.exists() and not path.is_dir():
        raise BadValue(name, path, "a folder, but this is a file")
    return writable(name, path)
