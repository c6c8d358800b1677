"""Walking through a composed config."""

from collections.abc import Iterator
from typing import Any, TypeAlias

from omegaconf import DictConfig, ListConfig, OmegaConf

Container: TypeAlias = DictConfig | ListConfig
DIRECTIVES = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}  # keys that Hydra reads itself


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
    """The nodes below ``node`` that have a ``_target_``, with their keys."""
    values = [(child, parent[name]) for child, parent, name in walk(node, key) if is_written(parent, name)]
    return [(child, value) for child, value in values if is_target(value)]


def is_target(value: Any) -> bool:
    """Whether a value is a node with a ``_target_``."""
    return isinstance(value, DictConfig) and not value._is_none() and "_target_" in value


def is_partial(value: Any) -> bool:
    """Whether a value is a node whose object is completed by the program."""
    return is_target(value) and bool(value.get("_partial_", False))


def home(node: Container) -> str:
    """The key at which a node is written: ``schedule`` for ``corruption.schedule``, which is ``${schedule}``."""
    parent, name = node._get_parent(), node._key()
    above = home(parent) if isinstance(parent, Container) else ""
    return f"{above}.{name}" if above else str(name or "")


def plain(value: Any) -> Any:
    """A value as Python's own containers, interpolations resolved."""
    return OmegaConf.to_container(value, resolve=True) if isinstance(value, Container) else value


def without(cfg: DictConfig, *names: str) -> DictConfig:
    """A copy of a config without some of its nodes."""
    return OmegaConf.masked_copy(cfg, [name for name in cfg if name not in names])
