"""Rebuilds adapters (LoRA) as a checkpoint has them, without the file that they started from."""

import copy
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from interp_refiner.model.backbone import adapted_layers
from interp_refiner.training.checkpoint.run_folder import BACKBONE
from interp_refiner.training.checkpoint.same_run import stored_state

LORA = "backbone.lora"


def with_stored_adapters(cfg: DictConfig, checkpoint: Path, name: str = "checkpoint") -> DictConfig:
    """The config with adapters that have the layers and the rank of a checkpoint's adapters, and start at zero.

    Their values come from the checkpoint. So the file ``backbone.lora.weights`` is not read and need not exist.

    Args:
        cfg: the config of the checkpoint's run.
        checkpoint: a file, or the folder of a sharded one.
        name: of the setting that names the checkpoint, for the error.

    Returns:
        A changed copy, or the config itself if its adapters did not start from a file.

    Raises:
        BadValue: this project did not write the checkpoint.
    """
    if OmegaConf.select(cfg, f"{LORA}.weights") is None:
        return cfg
    state = stored_state(checkpoint, name)[0]
    own = {key.removeprefix(BACKBONE): value for key, value in state.items() if key.startswith(BACKBONE)}
    if not (layers := adapted_layers(own)):
        return cfg
    changed = copy.deepcopy(cfg)
    found = {"weights": None, "rank": max(layers.values()), "layers": list(layers)}
    for key, value in found.items():
        OmegaConf.update(changed, f"{LORA}.{key}", value, force_add=True)
    return changed
