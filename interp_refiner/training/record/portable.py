"""Configs, commands and texts without the folders of a machine; the identity of a run, and its changed settings."""

import copy
import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, Node, OmegaConf, open_dict

from interp_refiner.config.nodes import walk

# Settings that do not affect the result.
OF_THE_PLACE = ("hydra", "paths", "logger", "log_book", "duplicates", "experiment_name", "next_command", "scales",
                "print_config")  # fmt: skip
OF_THE_DEVICES = ("accelerator", "devices", "num_nodes", "strategy", "enable_progress_bar", "enable_model_summary")

_OUTPUT = re.compile(r"\+?(hydra\.(run|sweep)\.dir|paths\.\w+)=")
_ELSEWHERE = re.compile(r"(?<![\w.:/])/(?:[^/\s'\"=,]+/)+(?=[^/\s'\"=,])")


def without_folders(text: str) -> str:
    """``text`` with absolute paths shortened: ``.../name`` for ``/some/where/name``."""
    return _ELSEWHERE.sub(".../", text)


def portable_command(command: str) -> str:
    """A command without its output folder, and with other paths shortened to their last part."""
    try:
        words = shlex.split(command)
    except ValueError:  # a quote that is not closed
        words = command.split()
    return shlex.join(without_folders(word) for word in words if not _OUTPUT.match(word))


def portable(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config with every value of ``paths`` replaced by its name, for example ``<cache>/moving_shapes``."""
    cfg = copy.deepcopy(cfg)
    with open_dict(cfg):
        cfg.pop("hydra", None)
        for name in cfg.get("paths", {}):
            cfg.paths[name] = f"<{name}>"
    found = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(found, dict)
    return {str(name): value for name, value in found.items()}


def identity(cfg: DictConfig) -> str:
    """A hash of all settings that determine a training run's result: 16 hexadecimal digits.

    Paths, loggers, Hydra's own settings and devices are left out. The number of devices matters only for the size of
    the global batch. ``ckpt_path=last`` is left out, because it continues the same run.
    """
    found = {name: value for name, value in portable(cfg).items() if name not in OF_THE_PLACE}
    if found.get("ckpt_path") == "last":
        found["ckpt_path"] = None
    if isinstance(trainer := found.get("trainer"), dict):
        processes = _count(trainer.get("devices")) * _count(trainer.get("num_nodes"))
        found["processes_x_batch"] = processes * _count((found.get("data") or {}).pop("batch_size", 1))
        found["trainer"] = {name: value for name, value in trainer.items() if name not in OF_THE_DEVICES}
    text = json.dumps(found, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _count(value: Any) -> int:
    """The number of devices that a setting asks for; 1 if it depends on the machine."""
    if isinstance(value, list):
        return len(value)
    return int(value) if str(value).isdecimal() else 1


def changed(cfg: DictConfig, defaults: DictConfig) -> dict[str, Any]:
    """The values of a config that differ from its program's defaults, by dotted key; None for removed ones.

    Values that only follow another value through an interpolation (``corruption.drawn.seed`` from ``seed``) are left
    out.
    """
    links, before = _links(cfg), _links(defaults)
    follows = tuple(key for key, link in links.items() if before.get(key) == link)
    new, old = (_flat({k: v for k, v in portable(c).items() if k not in ("paths", "hydra")}) for c in (cfg, defaults))
    missing = object()
    differing = {key: value for key, value in new.items() if old.get(key, missing) != value}
    gone = [key for key in old if key not in new and not any(k.startswith(f"{key}.") for k in new)]
    emptied = {key for key in gone if any(key.startswith(f"{k}.") for k in differing)}  # below a node set to null
    found = differing | {key: None for key in gone if key not in emptied}
    return {key: value for key, value in found.items() if not any(f"{key}.".startswith(f"{k}.") for k in follows)}


def _links(cfg: DictConfig) -> dict[str, Any]:
    """Every unresolved interpolation of a config, by its key."""
    entries = [(key, node._get_node(name)) for key, node, name in walk(cfg) if OmegaConf.is_interpolation(node, name)]
    return {key: entry._value() for key, entry in entries if isinstance(entry, Node)}


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in node.items():
        key = f"{prefix}{name}"
        leaves |= _flat(value, f"{key}.") if isinstance(value, dict) and value else {key: value}
    return leaves
