"""What Hydra has against a command line, in one line that names the override and the nearest match."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from interp_refiner.config.check import locate_target, parameters
from interp_refiner.config.nodes import is_target, is_written, walk
from interp_refiner.core import BadValue, MissingExtra

# Hydra 1.3 tells its errors apart by their text only.
_NO_SUCH_KEY = re.compile(r"Could not override '([^']+)'\.\nTo append to your config")
_NO_DEFAULT = re.compile(r"Could not override '([^']+)'\. No match in the defaults list")
_ALREADY_THERE = re.compile(r"Multiple values for (\S+)\.|^(\S+) appears more than once|item is already at '([^']+)'")
_LIST_OR_SWEEP = re.compile(r"Ambiguous value for argument '(.+)'")
_PLUGINS = {  # options that other packages bring, and the extra that installs them
    ("hydra/launcher", "joblib"): ("hydra-joblib-launcher", "sweep"),
    ("hydra/sweeper", "optuna"): ("hydra-optuna-sweeper", "sweep"),
    ("hydra/launcher", "submitit_slurm"): ("hydra-submitit-launcher", "slurm"),
    ("hydra/launcher", "submitit_local"): ("hydra-submitit-launcher", "slurm"),
}
_SWEEP = re.compile(r"Sweep parameters '(.+)' requires --multirun")


def explain(error: Exception, overrides: Sequence[str], conf_dir: Path, config_name: str) -> str:
    """What Hydra or OmegaConf raised while the config was composed: the override, what is wrong with it, the cure.

    Args:
        error: the error.
        overrides: the arguments of the program.
        conf_dir: the folder with the config groups.
        config_name: the primary config.
    """
    message = str(error)
    if isinstance(error, OverrideParseException):
        reason = error.message.splitlines()[1:2] or [error.message]
        return f"{error.override}: expected key=value, +key=value, ~key or group=option ({reason[0]})"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return str(_unknown_option(error, overrides, conf_dir))
    if found := _NO_SUCH_KEY.match(message):
        return _unknown_key(found[1], _override_of(found[1], overrides), _known(overrides, conf_dir, config_name))
    if found := _NO_DEFAULT.match(message):
        override = _override_of(found[1], overrides)
        return f"{override}: the defaults list has no {found[1]} that could be replaced; use +{override}"
    if found := _ALREADY_THERE.search(message):
        override = _override_of(next(filter(None, found.groups())), overrides)
        return f"{override}: there already, and can be replaced; use {override.lstrip('+')}"
    if found := _SWEEP.match(message):
        return f"{found[1]}: a sweep needs --multirun"
    if found := _LIST_OR_SWEEP.match(message):
        key, _, value = found[1].partition("=")
        return f"{found[1]}: a list is written {key}=[{value}], a sweep needs --multirun"
    if not isinstance(error, HydraException):
        return message.splitlines()[0] if isinstance(error, OmegaConfBaseException) else message
    if isinstance(error.__cause__, OmegaConfBaseException):
        message = f"{message}: {str(error.__cause__).splitlines()[0]}"
    return message.partition("Config search path:")[0].removeprefix("None: ")


def _override_of(key: str, overrides: Sequence[str]) -> str:
    """The argument that sets ``key``."""
    return next((item for item in overrides if item.partition("=")[0].lstrip("+~") == key), key)


def _unknown_option(error: MissingConfigException, overrides: Sequence[str], conf_dir: Path) -> Exception:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    if (group, option) in _PLUGINS:
        return MissingExtra(f"{group}={option}", *_PLUGINS[group, option])
    options = sorted(error.options or (path.stem for path in (conf_dir / group).glob("*.yaml")))
    sign = "+" if _override_of(group, overrides).startswith("+") else ""
    return BadValue(f"{sign}{group}" if group else "--config-name", option, " | ".join(options), options)


def _unknown_key(key: str, override: str, known: dict[str, Any]) -> str:
    parent, _, name = key.rpartition(".")
    if is_target(known.get(parent)) and name in parameters(locate_target(parent, known[parent]["_target_"])):
        return f"{override}: no such key yet; use +{override}"
    near = nearest_key(key, list(known))
    return f"{override}: no such key" + (f"; did you mean '{near}'?" if near else f"; +{override} would add it")


def _known(overrides: Sequence[str], conf_dir: Path, config_name: str) -> dict[str, Any]:
    """Every key that the command line could have set and its value, and every group, given the options it chooses."""
    groups = [str(path.relative_to(conf_dir)) for path in conf_dir.rglob("*") if path.is_dir()]
    chosen = [item for item in overrides if item.partition("=")[0].lstrip("+") in groups]
    with hydra.initialize_config_dir(str(conf_dir), version_base="1.3"):
        for choice in (chosen, []):
            try:
                cfg = hydra.compose(config_name, choice)
            except (HydraException, OmegaConfBaseException):
                continue
            entries = {key: node[name] if is_written(node, name) else None for key, node, name in walk(cfg)}
            return dict.fromkeys(groups) | entries
    return dict.fromkeys(groups)


def nearest_key(key: str, known: Sequence[str]) -> str | None:
    """The known key that was most likely meant by ``key``: one with the same last part, else one spelled alike."""
    leaf = key.rpartition(".")[2]
    same_leaf = [candidate for candidate in known if candidate.rpartition(".")[2] == leaf]
    near = get_close_matches(key, same_leaf, n=1, cutoff=0.0) or get_close_matches(key, known, n=1, cutoff=0.6)
    return near[0] if near else None
