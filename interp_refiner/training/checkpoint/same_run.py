"""Checks whether a run can resume from a checkpoint, before its folder changes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.optim import Optimizer

from interp_refiner.core import AVERAGED, BadValue, one_fault, state_faults
from interp_refiner.training.checkpoint.run_folder import CONFIG_FILE, stored_config
from interp_refiner.training.checkpoint.sharded import read_checkpoint, read_rest, stored_groups
from interp_refiner.training.checkpoint.whole import FOLDER
from interp_refiner.training.optimizer import OptimizerRecipe

# Settings that define a run: if one of them changes, a checkpoint's weights or optimizer state have another meaning.
KEPT = (
    "training._target_",
    "objective._target_",
    "objective.variance",
    "objective.gate",
    "optimizer._target_",
    "backbone",
    "attention._target_",
)
# Settings of the backbone that may change: how it is computed, and the path of its initial weights.
FREE = ("backbone.blocks", "backbone.pretrained", "backbone.attention")
STATE, OPTIMIZERS = "state_dict.", "optimizer_states"
RESUMED = ("pytorch-lightning_version", "loops", "lr_schedulers", OPTIMIZERS)  # entries that Lightning needs to resume


def check_same_run(cfg: DictConfig) -> None:
    """Refuses to resume from the checkpoint of a different run, by the ``config.yaml`` in the checkpoint's run folder.

    All settings except those in :data:`KEPT` may change (see docs/training.md). Without a ``config.yaml``, as for a
    single file, nothing is checked here; :func:`check_state` checks the weights.

    Args:
        cfg: of the resuming run, with ``ckpt_path``.

    Raises:
        BadValue: a setting differs (names the first one), or the ``config.yaml`` is damaged.
    """
    if cfg.get("ckpt_path") is None:
        return
    folder = config_folder(cfg.ckpt_path, Path(cfg.paths.output_dir))
    if folder is None:
        return
    before = stored_config(folder, "ckpt_path")
    for key, now in _settings(cfg):
        then = OmegaConf.select(before, key, default=now)  # the setting may be newer than the run
        if then != now:
            allowed = f"{then}, the value of {folder}; a new run can start from its weights: initial_weights={folder}"
            raise BadValue(key, now, allowed)


def config_folder(ckpt_path: str, run_folder: Path) -> Path | None:
    """The run folder of a checkpoint; None if there is no checkpoint yet, or no ``config.yaml`` in the folder."""
    if ckpt_path == "last":
        begun = any((run_folder / FOLDER).glob("*.ckpt*"))
        return run_folder if begun and (run_folder / CONFIG_FILE).is_file() else None
    path = Path(ckpt_path).expanduser().absolute()
    return next((folder for folder in (path, *path.parents[:2]) if (folder / CONFIG_FILE).is_file()), None)


def check_state(checkpoint: Path, module: nn.Module) -> None:
    """Refuses a checkpoint of another network or optimizer, before Lightning loads it.

    Args:
        checkpoint: a file, or the folder of a sharded one.
        module: the resuming module, with the ``recipe`` of its optimizer.

    Raises:
        BadValue: the checkpoint does not fit; names the first tensors that are missing, left over or of another size,
            or the missing entry.
    """
    stored, groups = stored_state(checkpoint, "ckpt_path")
    own = module.state_dict()
    left_out = {f"backbone.{name}" for name in getattr(getattr(module, "backbone", None), "unchanged", ())}
    if faults := state_faults(own, stored, optional=left_out):
        raise BadValue("ckpt_path", checkpoint, f"a checkpoint of this network: {faults}")
    recipe: OptimizerRecipe = module.recipe  # type: ignore[assignment]
    optimizer = recipe.optimizer(module)
    fresh = optimizer.state_dict()["param_groups"]
    if groups is not None and [_shape(group) for group in groups] != [_shape(group) for group in fresh]:
        raise BadValue("ckpt_path", checkpoint, f"a checkpoint with the state of {type(optimizer).__name__}")
    _check_complete(checkpoint, module, optimizer)


def _check_complete(checkpoint: Path, module: nn.Module, optimizer: Optimizer) -> None:
    """Refuses a checkpoint without the state of training, or with averages or moments of a wrong size.

    The tensors of a sharded checkpoint are not read here.
    """
    sharded = checkpoint.is_dir()
    content = read_rest(checkpoint, "ckpt_path") if sharded else read_checkpoint(checkpoint, "ckpt_path")
    if missing := [name for name in RESUMED if name not in content and not (sharded and name == OPTIMIZERS)]:
        allowed = f"a checkpoint of training: it lacks {missing[0]}; initial_weights=<a run> starts a new run"
        raise BadValue("ckpt_path", checkpoint, allowed)
    if sharded:
        return
    own, averages = module.state_dict(), content.get(AVERAGED, {})
    if faults := state_faults({name: own[name] for name in averages if name in own}, averages):
        raise BadValue("ckpt_path", checkpoint, f"averages of this network: {faults}")
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    with one_fault("ckpt_path", checkpoint, "a checkpoint with the state of an optimizer"):
        for number, state in (content[OPTIMIZERS][0]["state"] if content[OPTIMIZERS] else {}).items():
            for name, value in state.items():
                wanted = weights[number].shape
                if isinstance(value, Tensor) and value.ndim > 0 and value.shape != wanted:
                    raise ValueError(f"{name} of weight {number} is {list(value.shape)}, not {list(wanted)}")


def _settings(cfg: DictConfig) -> Iterator[tuple[str, Any]]:
    """(key, value) of every setting in :data:`KEPT`."""
    for name in KEPT:
        value = OmegaConf.select(cfg, name)
        for key, single in _leaves(name, value):
            if not key.startswith(FREE):
                yield key, single


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, DictConfig):
        yield key, value
        return
    for name in map(str, value):
        if not OmegaConf.is_missing(value, name):
            yield from _leaves(f"{key}.{name}", value[name])


def stored_state(checkpoint: Path, name: str) -> tuple[dict[str, Tensor], list[Mapping[str, Any]] | None]:
    """The weights of a checkpoint (of a sharded one only names and shapes), and its optimizer's parameter groups.

    Raises:
        BadValue: with the setting's ``name``, if this project did not write the checkpoint.
    """
    if not checkpoint.is_dir():
        content = read_checkpoint(checkpoint, name)
        with one_fault(name, checkpoint, "a checkpoint with the state of an optimizer"):
            groups: list[Mapping[str, Any]] | None = None
            if states := content.get(OPTIMIZERS):
                groups = [{**group, "params": [*group["params"]]} for group in states[0]["param_groups"]]
        return content["state_dict"], groups
    found = dcp.FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    state = {
        name.removeprefix(STATE): torch.empty(stored.size, dtype=stored.properties.dtype, device="meta")
        for name, stored in found.items()
        if name.startswith(STATE) and isinstance(stored, TensorStorageMetadata)
    }
    return state, stored_groups(checkpoint)


def _shape(group: Mapping[str, Any]) -> tuple[int, frozenset[str]]:
    """The properties that must be equal in two parameter groups: number of parameters, and names of settings."""
    return len(group["params"]), frozenset(group) - {"params", "initial_lr", "decoupled_weight_decay"}
