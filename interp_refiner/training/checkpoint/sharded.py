"""Sharded checkpoints: folders in which every process writes its shard, readable under any strategy."""

import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from interp_refiner.training.checkpoint.partial import PARTIAL, write_whole

METADATA = ".metadata"  # of torch.distributed.checkpoint: where every record lies; written last
REST = "meta.pt"  # beside the shards: what is equal on all processes; the name that Lightning gives it
OLD = ".old" + PARTIAL
OPTIMIZER = "optimizer_{}"


def write_sharded(shards: dict[str, Any], rest: dict[str, Any], path: Path) -> None:
    """Writes a folder that gets its name once all of it is on the disk; to be called by all processes.

    Args:
        shards: state dicts by name, whose tensors may be sharded.
        rest: what is equal on all processes.
        path: the same on all processes.

    Raises:
        OSError: a process cannot write, in all processes; nothing is left of the folder.
    """
    partial = path.with_name(path.name + PARTIAL)

    def begin() -> None:
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed while it wrote
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
        _first_does(lambda: shutil.rmtree(partial, ignore_errors=True))  # where the disk is full, others need the space
        raise reason from error


def _of_system(error: OSError | dcp.api.CheckpointException, free: int) -> OSError:
    """What went wrong, without torch's stack traces: what the system said in any process, else what torch said.

    Where torch has written only a part of a file, it does not say why.
    """
    causes = [error] if isinstance(error, OSError) else [cause for cause, _ in error.failures.values()]
    first = f"{type(causes[0]).__name__}: {causes[0]} ({free / 1e6:.1f} MB of the disk are free)"
    return next((cause for cause in causes if isinstance(cause, OSError)), OSError(first))


def _first_does(work: Callable[[], None]) -> None:
    """The first process works while the others wait; an error of the system is raised in all of them."""
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
    """Whether a folder is a sharded checkpoint, whole or not."""
    return any((path / name).exists() for name in (METADATA, REST))


def size_of(path: Path) -> int:
    """Bytes of a checkpoint: of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size


def damage(path: Path) -> str | None:
    """What is wrong with the folder of a sharded checkpoint; None for a whole one.

    Every record (a tensor of one process, or an object) is a zip archive as ``torch.save`` writes it, and is compared
    with its own checksums.
    """
    for name in (METADATA, REST):
        if not (path / name).is_file():
            return f"a sharded checkpoint without {name}"
    try:
        records = dcp.FileSystemReader(path).read_metadata().storage_data
    except Exception as error:  # whatever half a pickle may cause
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
    """Gives ``new`` the name ``path``. No system renames a folder onto a full one, so the old one steps aside first."""
    old = path.with_name(path.name + OLD)
    if path.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
    else:
        path.unlink(missing_ok=True)
    os.replace(new, path)
    shutil.rmtree(old, ignore_errors=True)


def stored_names(path: Path, part: str) -> list[str]:
    """The names in one state dict of a sharded checkpoint; none where it is not in there."""
    found = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    return [name.removeprefix(f"{part}.") for name in found if name.startswith(f"{part}.")]


def stored_groups(path: Path) -> list[Mapping[str, Any]] | None:
    """The groups of parameters of a sharded checkpoint's optimizer, read without moments; None where it has none."""
    metadata = dcp.FileSystemReader(path).read_metadata()
    name = OPTIMIZER.format(0)
    groups: dict[str, Any] = dict.fromkeys(
        stored for stored in metadata.state_dict_metadata if stored.startswith(f"{name}.param_groups.")
    )
    if not groups:
        return None
    dcp.load(groups, checkpoint_id=path, no_dist=True)
    return _nested(groups, metadata)[name]["param_groups"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of any strategy on the CPU in the layout of one file: ``state_dict``, ``optimizer_states``, ...

    Args:
        path: a checkpoint file, or the folder of a sharded one. It is read by this process alone.
    """
    if not path.is_dir():
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    metadata = dcp.FileSystemReader(path).read_metadata()
    flat = {name: _empty(stored) for name, stored in metadata.state_dict_metadata.items()}
    dcp.load(flat, checkpoint_id=path, no_dist=True)
    shards = _nested(flat, metadata)
    rest = torch.load(path / REST, map_location="cpu", weights_only=True)
    optimizers = [name for name in shards if name.startswith(OPTIMIZER.format(""))]
    states = [by_number(shards.pop(name)) for name in sorted(optimizers)]
    return {**rest, **shards, "optimizer_states": states}


def _empty(stored: Any) -> Any:
    tensor = isinstance(stored, TensorStorageMetadata)
    return torch.empty(stored.size, dtype=stored.properties.dtype) if tensor else None


def _nested(flat: Mapping[str, Any], metadata: Metadata) -> dict[str, Any]:
    """The dicts and lists that were flattened when they were saved."""
    tree: dict[Any, Any] = {}
    for name, value in flat.items():
        *parents, leaf = metadata.planner_data[name]
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return _with_lists(tree)


def _with_lists(node: Any) -> Any:
    """Dicts whose keys are numbers are lists."""
    if not isinstance(node, dict):
        return node
    values = {name: _with_lists(value) for name, value in node.items()}
    return (
        [values[number] for number in sorted(values)] if values and all(isinstance(n, int) for n in values) else values
    )


def by_number(state: Mapping[str, Any]) -> dict[str, Any]:
    """An optimizer's state with its parameters by number, as torch has it, from one that has them by name."""
    names = [name for group in state["param_groups"] for name in group["params"]]
    numbers = {name: number for number, name in enumerate(names)}
    groups = [{**group, "params": [numbers[name] for name in group["params"]]} for group in state["param_groups"]]
    return {"state": {numbers[name]: value for name, value in state.get("state", {}).items()}, "param_groups": groups}


def by_name(state: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """An optimizer's state with its parameters by name, from one that numbers them; ``names`` in their order."""
    groups = [{**group, "params": [names[number] for number in group["params"]]} for group in state["param_groups"]]
    return {"state": {names[number]: value for number, value in state["state"].items()}, "param_groups": groups}
