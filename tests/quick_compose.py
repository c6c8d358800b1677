"""Makes Hydra compose configs faster, with the same results: the suite composes more than a thousand.

A config that was composed before from the same files is copied. A process parses every file once, and again only after
a change, and the text of every interpolation once. The map that resolves interpolations in defaults lists is made only
for lists that have one. Values are copied without going through the protocol of ``pickle``.
"""

import copy
import os
from collections.abc import Hashable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime
from omegaconf import AnyNode, _utils, base
from omegaconf.base import Metadata

KEPT = 16  # compositions


PLAIN: list[tuple[Any, str, Any]] = []  # what Hydra has itself: where, name, function


def _replace(place: Any, name: str, function: Any) -> None:
    PLAIN.append((place, name, getattr(place, name)))
    setattr(place, name, function)


@cache
def install() -> None:
    """Until this process ends; again changes nothing."""
    Plugins.instance()  # finds the sources
    _parse_once()
    _parse_packages_once()
    for place in (base, _utils):
        _replace(place, "parse", lru_cache(maxsize=4096)(place.parse))  # nothing changes a tree once it is parsed
    _replace(AnyNode, "__deepcopy__", _copy_of)
    _resolve_where_needed()
    _compose_once()


def _copy_of(node: AnyNode, memo: dict[int, Any]) -> AnyNode:
    """A value's node of its own: the value itself is not copied, nor is it by omegaconf."""
    copied, metadata = object.__new__(AnyNode), object.__new__(Metadata)
    metadata.__dict__.update(node._metadata.__dict__)
    metadata.flags = dict(metadata.flags or {})
    copied.__dict__.update(node.__dict__, _metadata=metadata, _flags_cache=None)
    return copied


def _stamp(file: os.DirEntry | Path) -> tuple[str, int, int]:
    found = file.stat()
    return os.fspath(file), found.st_mtime_ns, found.st_size


def _parse_once() -> None:
    source = SourcesRegistry.instance().resolve("file")
    parse, parsed = source.load_config, {}

    def load_config(self: Any, config_path: str) -> Any:
        file = Path(os.path.realpath(os.path.join(self.path, self._normalize_file_name(config_path))))
        if not file.is_file():
            return parse(self, config_path)
        key = (self.path, self.provider, _stamp(file))
        if key not in parsed:
            parsed[key] = parse(self, config_path)
        return copy.deepcopy(parsed[key])  # a composition changes what it is given

    _replace(source, "load_config", load_config)


def _parse_packages_once() -> None:
    """The configs of installed packages, Hydra's own, do not change."""
    source = SourcesRegistry.instance().resolve("pkg")
    parse, parsed = source.load_config, {}

    def load_config(self: Any, config_path: str) -> Any:
        key = (self.path, self.provider, config_path)
        if key not in parsed:
            parsed[key] = parse(self, config_path)
        return copy.deepcopy(parsed[key])

    _replace(source, "load_config", load_config)


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
