"""Checks config values (numbers, strings, booleans, null, lists and dicts) against type hints."""

import collections.abc
import enum
import functools
import inspect
import json
import math
import operator
import os
import pathlib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from interp_refiner.core import SUPPLIED, BadValue

_SCALARS = {int: "an integer", float: "a number", str: "a string", bool: "true or false", types.NoneType: "null"}
_PATHS = (os.PathLike, pathlib.PurePath, pathlib.Path)
_LISTS = (
    list,
    tuple,
    set,
    frozenset,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Iterable,
    collections.abc.Collection,
    collections.abc.Set,
)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_UNIONS = (Union, types.UnionType)


@dataclass(frozen=True)
class Rule:
    """The rule of a type hint for values written in a config.

    Attributes:
        hint: the hint without the parts that only code can supply; None if nothing remains.
        code_only: whether it had such a part (a tensor, a module, a callable).
        built: whether all such parts are classes. A dict is then allowed only with a ``_target_``. Otherwise a dict is
            not checked.
    """

    hint: Any
    code_only: bool
    built: bool = False

    @property
    def is_component(self) -> bool:
        """Whether the hint allows no plain value but null."""
        return self.built and self.hint in (None, types.NoneType)

    def check(self, name: str, value: object) -> None:
        """Raises :class:`BadValue` if the hint does not allow the value.

        Checked as strict JSON: an int serves as a float, a list as a tuple, a string as a path or an enum's value, but
        ``"3"`` is no number, 1 is no boolean and 1.0 no integer. Infinity is allowed only where it is the default.
        """
        if isinstance(value, dict) and self.built and not _takes_dicts(self.hint):
            allowed = "" if self.hint is None else f"{_describe(self.hint)}, or "
            raise BadValue(name, as_yaml(value), f"{allowed}a node with _target_; these keys are of another option")
        if self.is_component and value is not None:
            raise BadValue(name, as_yaml(value), "a component, which is a node with _target_, not a plain value")
        if self.hint is None or (self.code_only and isinstance(value, dict)):
            return
        try:
            _adapter(self.hint).validate_json(json.dumps(value), strict=True)
        except ValidationError:
            raise BadValue(name, as_yaml(value), _describe(self.hint), _options(self.hint)) from None
        if not _is_finite(value):
            raise BadValue(name, as_yaml(value), f"{_describe(self.hint)}, finite")


_ANYTHING = Rule(None, code_only=True)


def rule(hint: Any) -> Rule:
    """The rule of a type hint."""
    hint = types.NoneType if hint is None else hint
    origin, args = get_origin(hint), get_args(hint)
    if origin is typing.Annotated:
        return _ANYTHING if SUPPLIED in args[1:] else rule(args[0])
    if isinstance(hint, typing.NewType):
        return rule(hint.__supertype__)
    if origin in _UNIONS:
        return _union([rule(member) for member in args])
    kind = origin or hint
    if kind is Literal or kind in _SCALARS or _is_enum(hint):
        return Rule(hint, code_only=False)
    if kind in _PATHS:
        return Rule(str, code_only=False)
    if kind in _LISTS:
        return _sequence(kind, args)
    if kind in _DICTS:
        values = rule(args[1]) if len(args) == 2 else _ANYTHING
        return Rule(dict[Any, Any if values.hint is None else values.hint], values.code_only)
    return Rule(None, code_only=True, built=_is_built(kind))


def _is_built(kind: Any) -> bool:
    """Whether objects of a type are built from a node with a ``_target_``."""
    return inspect.isclass(kind) and kind not in (Any, object, collections.abc.Callable) and not issubclass(kind, dict)


def _is_finite(value: object) -> bool:
    """Whether no number in a value is infinite or NaN: ranges are often checked by ``<``, which NaN passes."""
    if isinstance(value, list | dict):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _takes_dicts(hint: Any) -> bool:
    return any(get_origin(part) is dict for part in (hint, *get_args(hint)))


def _is_enum(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, enum.Enum)


def _union(members: list[Rule]) -> Rule:
    plain = [member.hint for member in members if member.hint is not None]
    coded = [member for member in members if member.code_only]
    hint = functools.reduce(operator.or_, plain) if plain else None
    return Rule(hint, bool(coded), bool(coded) and all(member.built for member in coded))


def _sequence(kind: type, args: tuple) -> Rule:
    items = [rule(arg) for arg in args if arg is not Ellipsis] or [_ANYTHING]
    hints = [Any if item.hint is None else item.hint for item in items]
    of_fixed_length = kind is tuple and args and Ellipsis not in args
    hint = tuple[tuple(hints)] if of_fixed_length else list[hints[0]]  # type: ignore[valid-type]
    return Rule(hint, any(item.code_only for item in items))


def rules(target: Callable) -> dict[str, Rule]:
    """The rules of a callable's arguments; arguments without a readable hint have none."""
    owner: Any = target
    if inspect.isclass(target):
        owner = target.__new__ if target.__init__ is object.__init__ else target.__init__  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(owner, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError):  # hints that only a type checker can read
        annotations = getattr(owner, "__annotations__", {})
        hints = {name: hint for name, hint in annotations.items() if not isinstance(hint, str)}
    return {name: rule(hint) for name, hint in hints.items() if name != "return"}


@functools.cache
def _adapter(hint: Any) -> TypeAdapter:
    return TypeAdapter(hint)


def _describe(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if hint in _SCALARS:
        return _SCALARS[hint]
    if origin in _UNIONS:
        if all(get_origin(arg) is Literal or arg is types.NoneType for arg in args):
            return " | ".join(_options(hint) + ["null"] * (types.NoneType in args))
        return " or ".join(dict.fromkeys(map(_describe, args)))
    if origin is Literal or _is_enum(hint):
        return " | ".join(_options(hint))
    if origin is list:
        return "a list" if args[0] is Any else f"a list of {_plural(args[0])}"
    if origin is tuple:
        return f"a list of {len(args)}: {', '.join(_describe(arg) for arg in args)}"
    if origin is dict:
        return "a dict" if args[1] is Any else f"a dict of {_plural(args[1])}"
    return "any value"


def _plural(hint: Any) -> str:
    plural = {int: "integers", float: "numbers", str: "strings", bool: "true or false"}
    return plural[hint] if hint in plural else f"({_describe(hint)})"


def _options(hint: Any) -> list[str]:
    """The values that can be listed, for the nearest one to be suggested."""
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    if _is_enum(hint):
        return [str(member.value) for member in hint]
    members = get_args(hint) if get_origin(hint) in _UNIONS else ()
    return list(dict.fromkeys(option for member in members for option in _options(member)))


def as_yaml(value: object) -> str:
    """The value as it is written in a config."""
    return value if isinstance(value, str) else json.dumps(value)
