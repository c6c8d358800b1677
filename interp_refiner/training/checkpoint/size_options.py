"""The options that give a network the size of a stored one."""

import shlex
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from interp_refiner.config import option_name
from interp_refiner.config.nodes import dotted
from interp_refiner.training.checkpoint.exported import is_exported, read_index
from interp_refiner.training.checkpoint.run_folder import find_checkpoint, stored_config


def size_options(own: DictConfig, place: Path) -> str:
    """The options that give a network the stored size, such as ``"backbone.size.dim=96 backbone.size.num_heads=3"``.

    Args:
        own: the backbone's node of the new run.
        place: an exported folder, a run folder, or a checkpoint inside one.

    Returns:
        The options, or "" if the sizes are equal or one of the networks has the size of pretrained weights.
    """
    stored = stored_backbone(place)
    if stored is None or any(node.get("pretrained") is not None or "size" not in node for node in (own, stored)):
        return ""
    kind = option_name("backbone", stored)
    same = kind == option_name("backbone", own)
    options = [] if same else [f"backbone={kind}"]
    for name, value in stored.size.items():
        there = own.size.get(name) if same else None
        if same and isinstance(value, DictConfig) and not isinstance(there, DictConfig):  # a part that own lacks
            options.append(f"{'+' * (name not in own.size)}backbone.size.{name}={_written(value)}")
            continue
        leaves = dotted(OmegaConf.create({name: value}))
        known = dotted(OmegaConf.create({name: there})) if same and name in own.size else {}
        leaves = {key: leaf for key, leaf in leaves.items() if not key.endswith("_target_")}
        options += [
            f"{'+' * (same and key not in known)}backbone.size.{key}={_written(leaf)}"
            for key, leaf in leaves.items()
            if not same or key not in known or known[key] != leaf
        ]
    return " ".join(map(shlex.quote, options))


def stored_backbone(place: Path) -> DictConfig | None:
    """The backbone's node of an exported folder or of a run's config; None if there is none."""
    if is_exported(place):
        parts = read_index(place, "initial_weights", ["components"])["components"]
        node = parts.get("backbone", parts.get("network"))
        # the transformer's weights lie in the folder itself; the size is theirs
        return OmegaConf.create({**node, "pretrained": None}) if node is not None else None
    folder, _ = find_checkpoint(place, "initial_weights")
    return OmegaConf.select(stored_config(folder, "initial_weights"), "backbone")


def _written(value: Any) -> str:
    """A value in Hydra's grammar, without spaces."""
    if isinstance(value, DictConfig):
        return "{" + ",".join(f"{name!s}:{_written(part)}" for name, part in value.items()) + "}"
    return "null" if value is None else str(value).replace(" ", "")
