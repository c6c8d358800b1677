"""Compares two parts of a method by their settings and weights."""

from collections.abc import Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import nn

from interp_refiner.core import BadValue
from interp_refiner.forward.interpolator import Remembered

PLAIN = (bool, int, float, str, type(None), torch.dtype)
NO_SETTING = (torch.Tensor, type, FunctionType)
OF_USE = ("training", "frozen")  # attributes of modules that are not settings


def check_alike(key: str, own: Any, other: Any, leave_out: Sequence[str] = ()) -> None:
    """Refuses a student's part that differs from its teacher's in class, settings or weights, at any depth.

    A cache around an interpolator is ignored, because it does not change results.

    Args:
        key: the part's key in the config.
        own, other: the student's part and the teacher's.
        leave_out: names of settings that may differ.

    Raises:
        BadValue: they differ; names the first difference.
    """
    mine, theirs = (dict(_settings(part, "", "", leave_out)) for part in (own, other))
    for name, (shown, value) in mine.items():
        _, wanted = theirs.get(name, ("", "none"))
        if value != wanted:
            raise BadValue(f"{key}{shown}", value, f"{wanted}, the teacher's")
    if more := [shown for name, (shown, _) in theirs.items() if name not in mine]:
        raise BadValue(key, type(own).__name__, f"one with {more[0].removeprefix('.')}, as the teacher's has")
    if isinstance(own, nn.Module):
        weights = zip(own.state_dict().items(), other.state_dict().values(), strict=True)
        if differ := [name for (name, value), wanted in weights if not torch.equal(value, wanted.to(value))]:
            raise BadValue(key, type(own).__name__, f"one with the teacher's weights: {differ[0]} differs")


def _settings(part: Any, name: str, shown: str, leave_out: Sequence[str] = ()) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Yields every setting below a part as (name, (key, value)); the value of a part itself is its class name.

    Settings are public attributes. Names and keys are dotted paths; only keys include caches around an interpolator.
    """
    if isinstance(part, Remembered):
        yield from _settings(part.inner, name, f"{shown}.inner", leave_out)
    elif isinstance(part, PLAIN):
        yield name, (shown, part)
    elif isinstance(part, list | tuple):
        yield name, (shown, f"{len(part)} entries")
        for place, value in enumerate(part):
            yield from _settings(value, f"{name}.{place}", f"{shown}.{place}", leave_out)
    elif not isinstance(part, NO_SETTING):
        yield name, (shown, type(part).__name__)
        for inside, value in _inside(part).items():
            if inside not in leave_out:
                yield from _settings(value, f"{name}.{inside}", f"{shown}.{inside}", leave_out)


def _inside(part: Any) -> dict[str, Any]:
    """The public attributes of an object and the modules in it, or the entries of a mapping."""
    if isinstance(part, Mapping):
        return {str(name): value for name, value in part.items()}
    inside = {name: value for name, value in getattr(part, "__dict__", {}).items() if not name.startswith("_")}
    if isinstance(part, nn.Module):
        inside = {name: value for name, value in inside.items() if name not in OF_USE} | dict(part.named_children())
    return inside
