"""Walking through a composed config."""

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

from omegaconf import DictConfig, ListConfig, OmegaConf

Container: TypeAlias = DictConfig | ListConfig


def walk(node: Any, key: str = "") -> Iterator[tuple[str, Container, Any]]:
    """Every entry at any depth below ``node``, as (full key, the container it is in, its name there).

    The target of an interpolation is visited only where it is written.
    """
    if not isinstance(node, Container) or node._is_none():
        return
    names: list[Any] = list(node) if isinstance(node, DictConfig) else list(range(len(node)))
    for name in names:
        child = f"{key}.{name}" if key else str(name)
        yield child, node, name
        if is_written(node, name):
            yield from walk(node[name], child)


def is_written(node: Container, name: Any) -> bool:
    """Whether the entry has a value of its own: it is no interpolation and not missing."""
    return not OmegaConf.is_interpolation(node, name) and not OmegaConf.is_missing(node, name)


def dotted(node: DictConfig | None) -> dict[str, Any]:
    """The values below a node by dotted keys, ``{"data.root": "shards"}``; nothing where there is no node."""
    leaves = [(key, parent[name]) for key, parent, name in walk(node) if isinstance(parent, DictConfig)]
    return {key: value for key, value in leaves if not isinstance(value, DictConfig)}


def target_nodes(node: Any, key: str = "") -> list[tuple[str, DictConfig]]:
    """The nodes below ``node`` that name what they build, by their keys."""
    values = [(child, parent[name]) for child, parent, name in walk(node, key) if is_written(parent, name)]
    return [(child, value) for child, value in values if is_target(value)]


def is_target(value: Any) -> bool:
    """Whether a value is a node that names what it builds."""
    return isinstance(value, DictConfig) and not value._is_none() and "_target_" in value


def home(root: Any, key: str) -> str:
    """Where the value of ``key`` is written: ``corruption.schedule`` is ``${schedule}``, so at ``schedule``."""
    parts = key.split(".")
    for end in range(1, len(parts)):
        parent, name = OmegaConf.select(root, ".".join(parts[:end])), parts[end]
        if not isinstance(parent, DictConfig) or name not in parent:
            return key
        if OmegaConf.is_interpolation(parent, name):
            link = re.fullmatch(r"\$\{([\w.]+)\}", str(parent._get_node(name)._value()))  # type: ignore[union-attr]
            if link is not None:
                return home(root, ".".join([link[1], *parts[end + 1 :]]))
    return key
