"""Sharded checkpoints: folders to which every process writes its shard; readable with any strategy."""

import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from interp_refiner.core import AVERAGED, BadValue, load_stored
from interp_refiner.training.checkpoint.partial import PARTIAL, write_whole

METADATA = ".metadata"  # torch.distributed.checkpoint's list of all records; written last
REST = "meta.pt"  # state that is equal on all processes; Lightning's name
OLD = ".old" + PARTIAL
OPTIMIZER = "optimizer_{}"


def write_sharded(shards: dict[str, Any], rest: dict[str, Any], path: Path) -> None:
    """Writes a folder under a temporary name, then renames it. All processes must call it.

    Args:
        shards: state dicts by name; their tensors may be sharded.
        rest: state that is equal on all processes.
        path: the same on all processes.

    Raises:
        OSError: raised on all processes if one of them cannot write; the folder is removed.
    """
    partial = path.with_name(path.name + PARTIAL)

    def begin() -> None:
        shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed while writing
        partial.mkdir(parents=True)

    def end() -> None:
        with write_whole(partial / REST) as file:
            torch.save(rest, file)
        _replace(partial, path)

    _first_does(begin)
    try:
        dcp.save(shards, checkpoint_id=partial)
        _first_does(end)
    except (OSError, dcp.api.CheckpointException) as error:
        reason = _of_system(error, shutil.disk_usage(path.parent).free)
        _first_does(lambda: shutil.rmtree(partial, ignore_errors=True))  # free the space of a full disk
        raise reason from error


def _of_system(error: OSError | dcp.api.CheckpointException, free: int) -> OSError:
    """The cause without torch's stack traces: the system's error of any process, else torch's own error.

    The message also has the free disk space, because torch does not report the cause of a partly written file.
    """
    causes = [error] if isinstance(error, OSError) else [cause for cause, _ in error.failures.values()]
    first = f"{type(causes[0]).__name__}: {causes[0]} ({free / 1e6:.1f} MB of the disk are free)"
    return next((cause for cause in causes if isinstance(cause, OSError)), OSError(first))


def _first_does(work: Callable[[], None]) -> None:
    """Runs ``work`` on the first process while the others wait; a system error is raised on all of them."""
    several = torch.distributed.is_initialized()
    outcome: list[OSError | None] = [None]
    if not several or torch.distributed.get_rank() == 0:
        try:
            work()
        except OSError as error:
            outcome = [error]
    if several:
        torch.distributed.broadcast_object_list(outcome)
    if outcome[0] is not None:
        raise outcome[0]


def is_sharded(path: Path) -> bool:
    """Whether a folder is a sharded checkpoint, complete or not."""
    return any((path / name).exists() for name in (METADATA, REST))


def size_of(path: Path) -> int:
    """The size of a checkpoint in bytes: of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size


def damage(path: Path) -> str | None:
    """The damage of a sharded checkpoint's folder; None if it is intact.

    Every record (a tensor of one process, or an object) is a zip archive as ``torch.save`` writes it, and is compared
    with its own checksums.
    """
    for name in (METADATA, REST):
        if not (path / name).is_file():
            return f"a sharded checkpoint without {name}"
    try:
        records = dcp.FileSystemReader(path).read_metadata().storage_data
    except Exception as error:  # a truncated pickle may raise anything
        return f"its {METADATA} cannot be read: {error}"
    for record in records.values():
        with open(path / record.relative_path, "rb") as file:
            file.seek(record.offset)
            content = file.read(record.length)
        try:
            torn = ZipFile(io.BytesIO(content)).testzip()
        except (BadZipFile, EOFError) as error:
            return f"{record.relative_path} is truncated: {error}"
        if torn is not None:
            return f"{torn} in {record.relative_path} does not match its checksum"
    return None


def _replace(new: Path, path: Path) -> None:
    """Renames ``new`` to ``path``; the old folder is renamed first, because a folder cannot replace a non-empty one."""
    old = path.with_name(path.name + OLD)
    if path.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
    else:
        path.unlink(missing_ok=True)
    os.replace(new, path)
    shutil.rmtree(old, ignore_errors=True)


def stored_names(path: Path, part: str) -> list[str]:
    """The names in one state dict of a sharded checkpoint; empty if it has no such dict."""
    found = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    return [name.removeprefix(f"{part}.") for name in found if name.startswith(f"{part}.")]


def stored_groups(path: Path) -> list[Mapping[str, Any]] | None:
    """The optimizer's parameter groups in a sharded checkpoint, without moments; None if it has no optimizer state."""
    metadata = dcp.FileSystemReader(path).read_metadata()
    name = OPTIMIZER.format(0)
    groups: dict[str, Any] = dict.fromkeys(
        stored for stored in metadata.state_dict_metadata if stored.startswith(f"{name}.param_groups.")
    )
    if not groups:
        return None
    dcp.load(groups, checkpoint_id=path, no_dist=True)
    return _nested(groups, metadata)[name]["param_groups"]


def read_checkpoint(path: Path, name: str = "checkpoint") -> dict[str, Any]:
    """A checkpoint of any strategy, on the CPU, in the layout of one file: ``state_dict``, ``optimizer_states``, ...

    Args:
        path: a checkpoint file, or the folder of a sharded one. Only this process reads it.
        name: of the setting that names it, for the error.

    Raises:
        BadValue: a file that this project did not write.
    """
    if not path.is_dir():
        content = load_stored(name, path, "a checkpoint of this project", mmap=True)
        for part in ("state_dict", AVERAGED):
            weights = content.get(part, {} if part == AVERAGED else None) if isinstance(content, dict) else None
            if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
                raise BadValue(name, path, f"a checkpoint of this project, with a mapping {part} of tensors")
        return content
    metadata = dcp.FileSystemReader(path).read_metadata()
    flat = {name: _empty(stored) for name, stored in metadata.state_dict_metadata.items()}
    dcp.load(flat, checkpoint_id=path, no_dist=True)
    shards = _nested(flat, metadata)
    rest = read_rest(path, name)
    optimizers = [name for name in shards if name.startswith(OPTIMIZER.format(""))]
    states = [by_number(shards.pop(name)) for name in sorted(optimizers)]
    return {**rest, **shards, "optimizer_states": states}


def read_rest(path: Path, name: str) -> dict[str, Any]:
    """The unsharded part of a sharded checkpoint; raises :class:`BadValue` if this project did not write it."""
    rest = load_stored(name, path / REST, "the rest of a sharded checkpoint")
    if not isinstance(rest, dict):
        raise BadValue(name, path / REST, f"the rest of a sharded checkpoint, it holds {type(rest).__name__}")
    return rest


def _empty(stored: Any) -> Any:
    tensor = isinstance(stored, TensorStorageMetadata)
    return torch.empty(stored.size, dtype=stored.properties.dtype) if tensor else None


def _nested(flat: Mapping[str, Any], metadata: Metadata) -> dict[str, Any]:
    """Restores the nested dicts and lists that saving has flattened."""
    tree: dict[Any, Any] = {}
    for name, value in flat.items():
        *parents, leaf = metadata.planner_data[name]
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return _with_lists(tree)


def _with_lists(node: Any) -> Any:
    """Turns dicts whose keys are numbers into lists."""
    if not isinstance(node, dict):
        return node
    values = {name: _with_lists(value) for name, value in node.items()}
    return (
        [values[number] for number in sorted(values)] if values and all(isinstance(n, int) for n in values) else values
    )


def by_number(state: Mapping[str, Any]) -> dict[str, Any]:
    """Converts an optimizer's state from parameter names to numbers, as torch expects it."""
    names = [name for group in state["param_groups"] for name in group["params"]]
    numbers = {name: number for number, name in enumerate(names)}
    groups = [{**group, "params": [numbers[name] for name in group["params"]]} for group in state["param_groups"]]
    return {"state": {numbers[name]: value for name, value in state.get("state", {}).items()}, "param_groups": groups}


def by_name(state: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Converts an optimizer's state from parameter numbers to ``names``, given in the order of the numbers."""
    groups = [{**group, "params": [names[number] for number in group["params"]]} for group in state["param_groups"]]
    return {"state": {names[number]: value for number, value in state["state"].items()}, "param_groups": groups}
