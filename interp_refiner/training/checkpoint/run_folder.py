"""Finds a run folder and its newest undamaged checkpoint; reads its config and weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning as L
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from interp_refiner.config import Refused
from interp_refiner.config.check import check_parts
from interp_refiner.config.refusal import locate
from interp_refiner.core import AVERAGED, LAST_CHECKPOINT, BadValue, read_stored, state_faults, weight_faults
from interp_refiner.model.backbone import Backbone, is_adapter, name_without
from interp_refiner.training.checkpoint.sharded import is_sharded, read_checkpoint
from interp_refiner.training.checkpoint.whole import LAST, fault, last_whole

CONFIG_FILE = "config.yaml"
PARTS = ("data", "codec", "medium", "corruption", "training")  # config nodes of every run
NETWORK = ("backbone", "attention")  # config nodes of a run that trains a backbone
BACKBONE = "backbone."  # prefix of the names of the backbone's weights
FAKE = "fake."  # prefix of the names of the fake network's weights, which only distillation needs


@runtime_checkable
class LeavesOut(Protocol):
    """A module whose checkpoints leave out weights that are stored elsewhere."""

    def with_unchanged(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a checkpoint, completed by the weights that it leaves out."""


def find_checkpoint(path: str | Path, name: str = "checkpoint") -> tuple[Path, Path]:
    """The run folder and the checkpoint that ``path`` refers to.

    Args:
        path: a run folder (its newest undamaged checkpoint is taken) or a checkpoint file.
        name: name of the setting, for the error.

    Raises:
        BadValue: neither a run folder nor a checkpoint inside one, or a damaged checkpoint.
    """
    path = Path(path).expanduser().absolute()
    file = path / LAST_CHECKPOINT if path.is_dir() and not is_sharded(path) else path
    folder = next((parent for parent in file.parents if (parent / CONFIG_FILE).is_file()), None)
    found = last_whole(file.parent) if file.name == LAST else file
    reason = "no such file" if found is None or not found.exists() else fault(found)
    if found is None or reason is not None or folder is None:
        allowed = f"a run folder with {CONFIG_FILE} and {LAST_CHECKPOINT}, or a checkpoint file inside one"
        raise BadValue(name, path, f"{allowed}{f' ({reason})' if reason else ''}")
    return folder.resolve(), found.resolve()


def read_weights(
    checkpoint_file: Path, module: L.LightningModule, ema: bool = True, name: str = "checkpoint"
) -> dict[str, Tensor]:
    """The module's complete state from a checkpoint, with averaged instead of raw weights if ``ema``.

    Raises:
        BadValue: with the setting's ``name``, if this project did not write the file.
    """
    checkpoint = read_checkpoint(checkpoint_file, name)
    weights: dict[str, Tensor] = dict(checkpoint["state_dict"])
    if ema:
        average = checkpoint.get(AVERAGED, {})
        weights |= {key: value.to(weights.get(key, value).dtype) for key, value in average.items()}
    return module.with_unchanged(weights) if isinstance(module, LeavesOut) else weights


def stored_config(folder: Path, name: str = "checkpoint") -> DictConfig:
    """The ``config.yaml`` of a run folder.

    Raises:
        BadValue: with the setting's ``name``, if it is damaged; with its key, if a part is a plain value.
    """
    file = folder / CONFIG_FILE
    config = read_stored(name, file, DictConfig, lambda content: OmegaConf.create(content.decode()))
    for part in (*PARTS, *NETWORK, "objective", "optimizer", "sampler"):
        if not isinstance(found := config.get(part), DictConfig | None):
            raise BadValue(part, found, f"a component, which is a node with _target_; it is from {file}")
    return config


def read_config(folder: Path, overrides: Mapping[str, Any]) -> DictConfig:
    """The config of a run.

    Args:
        folder: of the run.
        overrides: values by dotted key that replace its own.

    Raises:
        BadValue, Refused: it is damaged, an older version wrote it, or as :func:`check_parts`.
    """
    config = stored_config(folder)
    if (corruption := config.get("corruption")) is not None and "drawn" not in corruption:  # older runs have none
        raise BadValue("checkpoint", folder, "a run of this version; an older version wrote this one, train it again")
    for key in sorted(overrides, key=lambda key: key.count(".")):  # set a whole node before values inside it
        OmegaConf.update(config, key, overrides[key], merge=False)
    with blaming(folder, config):
        check_parts(config, [*PARTS, *(part for part in NETWORK if config.get(part) is not None)])
    return config


@contextmanager
def blaming(folder: Path, config: DictConfig) -> Iterator[None]:
    """Adds to an error raised in the ``with`` block that the wrong value comes from a run's config."""
    file = folder / CONFIG_FILE
    try:
        yield
    except BadValue as error:
        found = locate(error, config)
        assert isinstance(found, BadValue)
        allowed = f"{found.allowed}; it is from {file}, override {found.name}"
        raise BadValue(found.name, found.value, allowed, found.options) from error
    except Refused as error:
        raise Refused(f"{error}; it is from {file}") from error


def load_weights(checkpoint_file: Path, module: L.LightningModule, ema: bool = True) -> None:
    """Gives a module the weights of a checkpoint.

    Raises:
        BadValue: the weights do not fit the module that the run's config describes.
    """
    own = module.state_dict()
    weights = read_weights(checkpoint_file, module, ema)
    weights = {name: value for name, value in weights.items() if name in own or not name.startswith(FAKE)}
    if faults := state_faults(own, weights):
        described = checkpoint_file.parents[1] / CONFIG_FILE
        raise BadValue("checkpoint", checkpoint_file, f"the weights of the run that {described} describes: {faults}")
    module.load_state_dict(weights)


def start_from(module: L.LightningModule, path: str | Path, fitting: str = "") -> Path:
    """:func:`take_weights` with the averaged weights of a run; returns their file.

    Raises:
        BadValue: no checkpoint there, or one of another backbone.
    """
    _, checkpoint_file = find_checkpoint(path, "initial_weights")
    take_weights(module, read_weights(checkpoint_file, module, name="initial_weights"), path, fitting)
    return checkpoint_file


def take_weights(module: L.LightningModule, weights: Mapping[str, Tensor], path: str | Path, fitting: str = "") -> None:
    """Loads the weights of another run into a new module; the objective may differ.

    If only the new module has adapters, they keep their initial values. So do additional parts of the backbone that
    start as the identity (:meth:`Backbone.identity_parts`). In both cases the network starts as the same function.

    Args:
        module: the new module.
        weights: of the other run, by name.
        path: their path, for the error.
        fitting: the options that give the module the size of these weights, for the error.

    Raises:
        BadValue: the weights belong to another backbone, or are not finite floats.
    """
    own, advice = module.state_dict(), f"; its size is {fitting}" if fitting else ""
    found = {name: weights.get(name_without(name), weights.get(name)) for name in own}
    shared = {name: value for name, value in found.items() if value is not None and own[name].shape == value.shape}
    fresh = set() if any(map(is_adapter, weights)) else set(filter(is_adapter, own))
    if isinstance(backbone := getattr(module, "backbone", None), Backbone):
        stored = [name.removeprefix(BACKBONE) for name in shared if name.startswith(BACKBONE)]
        fresh |= {f"{BACKBONE}{name}" for name in backbone.identity_parts(stored)}
    missing = sorted(n for n in own.keys() - shared.keys() - fresh if not n.startswith("objective."))
    if missing:
        here, there = (list(w[missing[0]].shape) if missing[0] in w else "none" for w in (own, weights))
        which = f"such as {missing[0]}: {here} here, {there} there"
        allowed = f"a run of the same backbone: {len(missing)} of its weights are missing or of another size, {which}"
        raise BadValue("initial_weights", path, allowed + advice)
    taken = {name_without(name) for name in shared} | shared.keys()
    if unused := [n for n in weights.keys() - taken if not n.startswith("objective.")]:
        raise BadValue("initial_weights", path, f"a run of the same backbone: {weight_faults([], unused)}{advice}")
    if faults := state_faults({name: own[name] for name in shared}, shared):
        raise BadValue("initial_weights", path, f"the weights of a whole run: {faults}")
    module.load_state_dict(shared, strict=False)
