"""What the type hints of a callable allow in a config: numbers, strings, booleans, null, lists and dicts."""

import enum
import inspect
import json
import math
import os
import pathlib
import types
import typing
from collections import abc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin

from interp_refiner.core import SUPPLIED, UNBOUNDED, BadValue

_WORDS = {int: "an integer", float: "a number", str: "a string", bool: "true or false", types.NoneType: "null"}
_PLURALS = {"an integer": "integers", "a number": "numbers", "a string": "strings", "true or false": "true or false"}
_PATHS = (os.PathLike, pathlib.PurePath, pathlib.Path)
_LISTS = (list, tuple, set, frozenset, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection, abc.Set)
_DICTS = (dict, abc.Mapping, abc.MutableMapping)
_UNIONS = (Union, types.UnionType)


@dataclass(frozen=True)
class Rule:
    """The values that a type hint allows in a config.

    An integer is allowed as a float, a list as a tuple, a string as a path or as an enum's value. But ``"3"`` is not a
    number, 1 is not a boolean, and 1.0 is not an integer.

    Attributes:
        words: the allowed values in words; empty if the hint allows any, or only what a config cannot write.
        allows: whether a value is one of them.
        options: the values, if they can be listed.
        code_only: whether the hint has a part that only code can supply (a tensor, a module, a callable).
        built: whether all such parts are classes. A dict is then allowed only with a ``_target_``. Otherwise a dict is
            not checked.
        default: of the argument. It is allowed even if it contradicts the hint (``size: int = None``).
        unbounded: whether infinity is allowed.
    """

    words: str = ""
    allows: Callable[[Any], bool] = lambda value: True
    options: tuple[str, ...] = ()
    code_only: bool = False
    built: bool = False
    default: Any = inspect.Parameter.empty
    unbounded: bool = False

    @property
    def is_component(self) -> bool:
        """Whether the hint allows no plain value but null."""
        return self.built and self.words in ("", "null")

    @property
    def is_required(self) -> bool:
        """Whether the argument has no default."""
        return self.default is inspect.Parameter.empty

    def check(self, name: str, value: object) -> None:
        """Raises :class:`BadValue` if the value is neither allowed nor the default.

        Infinity is allowed only as the default, or if the hint says :data:`UNBOUNDED`. NaN is never allowed: checks
        such as ``if value < 1`` do not catch it. Integers have at most 64 bits, because tensors hold no longer ones.
        """
        is_default = type(value) is type(self.default) and value == self.default
        fits, leaves = self.words and self.allows(value), list(_leaves(value))
        too_long = any(isinstance(leaf, int) and not -(2**63) <= leaf < 2**63 for leaf in leaves)
        finite = all(math.isfinite(leaf) for leaf in leaves if isinstance(leaf, float))
        if is_default or (fits and not too_long and (finite or (self.unbounded and value == math.inf))):
            return
        allowed = [self.words] if self.words else []
        if fits and too_long:
            allowed = [f"{self.words}, of at most 64 bits"]
        elif fits:
            said = self.words.replace("number", "finite number")
            allowed = [said if said != self.words else f"{self.words} without infinite numbers and NaN"]
        elif isinstance(value, dict) and self.code_only:
            if not self.built:
                return
            allowed.append("a node with _target_; these keys belong to another option")
        elif self.is_component:
            allowed = ["a component, which is a node with _target_, not a plain value"]
        if allowed:
            written = value if isinstance(value, str) else json.dumps(value)
            raise BadValue(name, written, ", or ".join(allowed), self.options)


_ANYTHING = Rule(code_only=True)


def _leaves(value: object) -> Iterator[object]:
    """What lists and dicts hold at any depth; anything else is its own leaf."""
    if not isinstance(value, list | dict):
        yield value
        return
    for item in value.values() if isinstance(value, dict) else value:
        yield from _leaves(item)


def rule(hint: Any) -> Rule:
    """The rule of a type hint."""
    hint = types.NoneType if hint is None else hint
    args, kind = get_args(hint), get_origin(hint) or hint
    if kind is typing.Annotated:
        return _ANYTHING if SUPPLIED in args[1:] else replace(rule(args[0]), unbounded=UNBOUNDED in args[1:])
    if isinstance(hint, typing.NewType):
        return rule(hint.__supertype__)
    if kind in _UNIONS:
        return _any_of([rule(member) for member in args])
    if kind is Literal:
        return _one_of(args)
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        return _one_of([member.value for member in kind])
    kind = str if kind in _PATHS else kind
    if kind in _WORDS:
        serving = (int, float) if kind is float else (kind,)
        return Rule(_WORDS[kind], lambda value: type(value) in serving)
    if kind in _DICTS:
        return _all("a dict", dict, rule(args[1]) if len(args) == 2 else _ANYTHING)
    if kind is tuple and args and Ellipsis not in args:
        return _each([rule(arg) for arg in args])
    if kind in _LISTS:
        return _all("a list", list, rule(args[0]) if args else _ANYTHING)
    return Rule(code_only=True, built=_is_built(kind))


def _is_built(kind: Any) -> bool:
    """Whether objects of a type are built from a node with a ``_target_``, as plain values and devices are not."""
    if not inspect.isclass(kind) or kind in (Any, Callable) or kind.__module__ in ("builtins", "torch"):
        return False
    try:
        return not any(issubclass(value, kind) for value in (*_WORDS, list, dict)) and not issubclass(kind, dict)
    except TypeError:  # a protocol with attributes
        return True


def _any_of(members: Sequence[Rule]) -> Rule:
    """The rule of a union."""
    said, coded = [one for one in members if one.words], [one for one in members if one.code_only]
    words = list(dict.fromkeys(one.words for one in said))
    options = tuple(dict.fromkeys(option for one in said for option in one.options))
    if options and all(one.options or one.words == "null" for one in said):
        words = [" | ".join([*options, *["null"] * ("null" in words)])]
    return Rule(
        " or ".join(words),
        lambda value: not said or any(one.allows(value) for one in said),
        options,
        code_only=bool(coded),
        built=bool(coded) and all(one.built for one in coded),
    )


def _one_of(values: Iterable[Any]) -> Rule:
    listed = [(type(value), value) for value in values]
    names = tuple(str(value) for _, value in listed)
    return Rule(" | ".join(names), lambda value: (type(value), value) in listed, names)


def _each(items: Sequence[Rule]) -> Rule:
    """The rule of a tuple of fixed length."""

    def allows(value: Any) -> bool:
        same_length = isinstance(value, list) and len(value) == len(items)
        return same_length and all(item.allows(one) for item, one in zip(items, value, strict=True))

    words = ", ".join(item.words or "any value" for item in items)
    return Rule(f"a list of {len(items)}: {words}", allows, code_only=any(item.code_only for item in items))


def _all(words: str, kind: type[list | dict], item: Rule) -> Rule:
    """The rule of a list, or of a dict, whose items have one rule."""

    def allows(value: Any) -> bool:
        if not isinstance(value, kind):
            return False
        return all(item.allows(one) for one in (value.values() if isinstance(value, dict) else value))

    of = f" of {_PLURALS.get(item.words, f'({item.words})')}" if item.words else ""
    return Rule(words + of, allows, code_only=item.code_only)


def rules(target: Callable) -> dict[str, Rule]:
    """The rules of a callable's named arguments, and under ``**`` that of all others if it takes any.

    An argument without a hint, or with one that only a type checker can read, may have any value.
    """
    owner: Any = target
    if inspect.isclass(target):
        owner = target.__new__ if target.__init__ is object.__init__ else target.__init__  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(owner, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError):
        annotations = getattr(owner, "__annotations__", {})
        hints = {name: hint for name, hint in annotations.items() if not isinstance(hint, str)}
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # a builtin without a signature
        return {"**": Rule()}
    found = {}
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            found[name] = replace(rule(hints[name]) if name in hints else Rule(), default=parameter.default)
        elif parameter.kind is parameter.VAR_KEYWORD:
            found["**"] = Rule()
    return found
