"""Makes Hydra compose configs faster, with the same results: the suite composes more than a thousand.

A config that was composed before from the same files is copied. A process parses every file once, and again only after
a change, and the text of every interpolation once. The map that resolves interpolations in defaults lists is made only
for lists that have one. Values are copied without going through the protocol of ``pickle``.
"""

import copy
import os
from collections.abc import Collection, Hashable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.default_element import InputDefault
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime
from omegaconf import (
    AnyNode,
    BooleanNode,
    BytesNode,
    DictConfig,
    EnumNode,
    FloatNode,
    IntegerNode,
    ListConfig,
    Node,
    PathNode,
    StringNode,
    UnionNode,
    _utils,
    base,
    basecontainer,
    dictconfig,
    nodes,
)
from omegaconf.base import Box
from omegaconf.nodes import InterpolationResultNode

KEPT = 16  # compositions
VALUES = (
    AnyNode,
    StringNode,
    IntegerNode,
    FloatNode,
    BooleanNode,
    EnumNode,
    BytesNode,
    PathNode,
    InterpolationResultNode,
)
KINDS = {*VALUES, DictConfig, ListConfig, UnionNode}

PLAIN: list[tuple[Any, str, Any]] = []  # what Hydra has itself: where, name, function


def _replace(place: Any, name: str, function: Any) -> None:
    PLAIN.append((place, name, getattr(place, name, None)))
    setattr(place, name, function)


@cache
def install() -> None:
    """Until this process ends; again changes nothing."""
    Plugins.instance()  # finds the sources
    _parse_once()
    for place in (base, _utils):
        _replace(place, "parse", lru_cache(maxsize=4096)(place.parse))  # nothing changes a tree once it is parsed
    for kind in KINDS - {UnionNode}:
        _replace(kind, "__deepcopy__", _copy_of)
    _replace(Box, "_re_parent", _re_parent)
    for name, function in {"_is_missing_value": _is_missing_value, "_is_interpolation": _is_interpolation}.items():
        for place in (_utils, base, basecontainer, dictconfig, nodes):
            if hasattr(place, name):
                _replace(place, name, function)
    _resolve_where_needed()
    _compose_once()


def _shallow_copy_of(item: Any) -> Any:
    copied = object.__new__(type(item))
    copied.__dict__.update(item.__dict__)
    return copied


def _copy_of(node: Any, memo: dict[int, Any]) -> Any:
    """A node of its own with all below it: values themselves are not copied, nor are they by omegaconf."""
    own, copied = node.__dict__, _shallow_copy_of(node)
    metadata = _shallow_copy_of(own["_metadata"])
    metadata.flags = dict(metadata.flags or {})
    copied.__dict__.update(_metadata=metadata, _flags_cache=None)
    content = own.get("_content")
    if isinstance(content, dict):
        copied.__dict__["_content"] = {key: child.__deepcopy__(memo) for key, child in content.items()}
    elif isinstance(content, list):
        copied.__dict__["_content"] = [child.__deepcopy__(memo) for child in content]
    if "_content" in own:
        metadata.resolver_cache = copy.deepcopy(metadata.resolver_cache)
        for child in _children(copied):
            child.__dict__["_parent"] = copied
    return copied


def _is_missing_value(value: Any) -> bool:
    value = value._value() if type(value) in KINDS else value
    return isinstance(value, str) and value == "???"


def _is_interpolation(value: Any, strict_interpolation_validation: bool = False) -> bool:
    value = value._value() if type(value) in KINDS else value
    return isinstance(value, str) and _utils._is_interpolation_string(value, strict_interpolation_validation)


def _children(node: Any) -> Collection[Any]:
    content = node.__dict__.get("_content")
    if isinstance(content, dict):
        return content.values()
    return content if isinstance(content, list) else [content] * isinstance(content, Node)


def _re_parent(node: Any) -> None:
    """omegaconf does so to the whole config after every merge."""
    for child in _children(node):
        child.__dict__.update(_parent=node, _flags_cache=None)
        if "_content" in child.__dict__:
            _re_parent(child)


def _stamp(file: os.DirEntry | Path) -> tuple[str, int, int]:
    found = file.stat()
    return os.fspath(file), found.st_mtime_ns, found.st_size


def _parse_once() -> None:
    """Configs of installed packages, Hydra's own, do not change."""
    load, loaded = ConfigRepository.load_config, {}

    def load_config(self: Any, config_path: str) -> Any:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        scheme = source and source.scheme()
        if scheme not in ("file", "pkg"):
            return load(self, config_path)
        file = Path(source.path, source._normalize_file_name(config_path))
        key = (source.provider, source.path, config_path, scheme == "file" and _stamp(file))
        if key not in loaded:
            loaded[key] = load(self, config_path)
        found = _shallow_copy_of(loaded[key])
        found.config = copy.deepcopy(found.config)  # a composition changes what it is given
        return found

    def copy_of_repository(self: Any, memo: dict[int, Any]) -> Any:
        copied = _shallow_copy_of(self)
        copied.sources = list(self.sources)
        return copied

    def copy_of_default(self: Any, memo: dict[int, Any]) -> Any:
        copied = _shallow_copy_of(self)
        copied.__dict__.update({name: list(value) for name, value in vars(self).items() if isinstance(value, list)})
        return copied

    _replace(ConfigRepository, "load_config", load_config)
    _replace(ConfigRepository, "__deepcopy__", copy_of_repository)
    _replace(InputDefault, "__deepcopy__", copy_of_default)
    _replace(version, "_get_version", cache(version._get_version))


def _resolve_where_needed() -> None:
    create = defaults_list._create_interpolation_map

    def create_where_needed(overrides: Any, defaults: list[Any], self_added: bool) -> Any:
        needed = any(default.is_interpolation() for default in defaults)
        return create(overrides, defaults, self_added) if needed else None

    _replace(defaults_list, "_create_interpolation_map", create_where_needed)


def _files(folder: str) -> Iterator[os.DirEntry]:
    for entry in os.scandir(folder) if os.path.isdir(folder) else ():
        if entry.is_dir():
            yield from _files(entry.path)
        else:
            yield entry


def _compose_once() -> None:
    compose, composed = ConfigLoaderImpl.load_configuration, {}

    def load_configuration(self: Any, config_name: str | None, overrides: list[str], *args: Any, **named: Any) -> Any:
        if any("searchpath" in override for override in overrides):  # files elsewhere
            return compose(self, config_name, overrides, *args, **named)
        places = [(place.provider, place.path) for place in self.config_search_path.get_path()]
        folders = [path.removeprefix("file://") for _, path in places if "://" not in path or path[:4] == "file"]
        files = [_stamp(file) for folder in folders for file in _files(folder)]
        asked: list[Hashable] = [config_name, *overrides, args, *named.items(), JobRuntime.instance().get("name")]
        key = (*places, *files, *asked)
        found = composed.pop(key, None)
        if found is None:
            found = compose(self, config_name, overrides, *args, **named)
        composed[key] = found  # the newest is the last
        if len(composed) > KEPT:
            del composed[next(iter(composed))]
        found = copy.deepcopy(found)
        found.hydra.runtime.cwd = os.getcwd()
        return found

    _replace(ConfigLoaderImpl, "load_configuration", load_configuration)
