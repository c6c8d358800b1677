"""Reads stored files that may be damaged, or that somebody else or another version wrote."""

import json
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from interp_refiner.core.errors import BadValue, one_fault
from interp_refiner.core.weights import PLAIN_FLOATS

Kind = TypeVar("Kind")


def load_stored(name: str, path: str | Path, wanted: str, mmap: bool = False) -> Any:
    """The content of a file of ``torch.save``, on the CPU.

    Args:
        name: the setting that names the file, for the error.
        path: the file.
        wanted: what the file should hold, for the error.
        mmap: whether to read the tensors only when they are used.

    Raises:
        BadValue: no such file, a damaged one, or one that holds other objects than tensors and plain values.
    """
    try:
        return torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError as error:
        raise BadValue(name, path, f"{wanted}: no such file") from error
    except Exception as error:  # unpickling a damaged file can raise any exception
        raise BadValue(name, path, f"{wanted}: it is damaged, or holds other objects than tensors") from error


def load_tensor(name: str, path: str | Path, wanted: str) -> Tensor:
    """:func:`load_stored` for a file of one dense tensor of finite floats.

    Raises:
        BadValue: as :func:`load_stored`, or the file holds something else.
    """
    tensor = load_stored(name, path, wanted)
    if not isinstance(tensor, Tensor):
        raise BadValue(name, path, f"{wanted}, it holds {type(tensor).__name__}")
    if (kind := special(tensor)) is not None:
        raise BadValue(name, path, f"{wanted}, it holds a {kind} tensor")
    if tensor.dtype not in PLAIN_FLOATS:
        raise BadValue(name, path, f"{wanted}, of floats, not of {str(tensor.dtype).removeprefix('torch.')}")
    if not tensor.isfinite().all():
        raise BadValue(name, path, f"{wanted}, of finite numbers: it holds NaN or infinity")
    return tensor.detach()  # a Parameter would ask for gradients


def special(tensor: Tensor) -> str | None:
    """The kind of a tensor that is not dense: nested, quantized, sparse or without values (meta); None if dense."""
    if tensor.is_nested:
        return "nested"
    if tensor.is_quantized:
        return "quantized"
    if tensor.layout != torch.strided:
        return str(tensor.layout).removeprefix("torch.")
    return "meta" if tensor.is_meta else None


def parse_stored(
    name: str, path: str | Path, content: bytes, kind: type[Kind], parse: Callable[[bytes], Any] = json.loads
) -> Kind:
    """Parses the content of a file of plain values and checks its kind.

    Args:
        name: the setting that names the file, for the error.
        path: the file, for the error.
        content: its bytes.
        kind: ``dict`` or ``list``, or a class that ``parse`` returns.
        parse: reads the bytes; JSON by default.

    Raises:
        BadValue: the content cannot be parsed, or is of another kind.
    """
    wanted = f"a file that holds a {'list' if kind is list else 'mapping'}"
    with one_fault(name, path, wanted):
        found = parse(content)
    if not isinstance(found, kind):
        raise BadValue(name, path, f"{wanted}, it holds {type(found).__name__}")
    return found


def read_stored(name: str, path: Path, kind: type[Kind], parse: Callable[[bytes], Any] = json.loads) -> Kind:
    """:func:`parse_stored` of a file; also raises :class:`BadValue` for a file that cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadValue(name, path, f"a file that can be read: {error.strerror}") from error
    return parse_stored(name, path, content, kind, parse)


def from_stored(kind: type[Kind], found: Any) -> Kind:
    """A dataclass whose fields come from a stored mapping; other names in the mapping are ignored.

    Raises:
        TypeError: not a mapping, a field without a value, or as :func:`check_kinds`.
    """
    if not isinstance(found, dict):
        raise TypeError(f"a mapping is needed, not {type(found).__name__}")
    return check_kinds(kind(**{name: found[name] for name in _hints(kind) if name in found}))  # type: ignore[arg-type]


def check_kinds(found: Kind) -> Kind:
    """Returns a dataclass or named tuple whose values are of their declared kinds, see :func:`of_kind`.

    Raises:
        TypeError: names the first field with another value.
    """
    for name, hint in _hints(type(found)).items():  # type: ignore[arg-type]
        if not of_kind(value := getattr(found, name), hint):
            raise TypeError(f"{name} is {str(value)[:99]}")
    return found


def of_kind(value: Any, hint: Any) -> bool:
    """Whether a value fits a type hint, including the values inside lists, mappings, dataclasses and named tuples.

    As in JSON, an int is also a float, and a bool is not a number.
    """
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(of_kind(value, part) for part in parts)
    if kind is Literal:
        return value in parts
    if isinstance(value, bool) or hint is Any:
        return hint in (bool, Any)
    if kind is float:
        return isinstance(value, int | float)
    if not isinstance(value, kind):
        return False
    if kind is list and parts:
        return all(of_kind(item, parts[0]) for item in value)
    if kind is dict and parts:
        return all(of_kind(name, parts[0]) and of_kind(item, parts[1]) for name, item in value.items())
    if is_dataclass(kind) or hasattr(kind, "_fields"):
        return all(of_kind(getattr(value, name), part) for name, part in _hints(kind).items())
    return True


_hints = cache(get_type_hints)
