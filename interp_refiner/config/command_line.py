"""Parses the arguments of a program, and quotes plain values so that Hydra reads them as they were typed."""

import os
import re
import types
import typing
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException

from interp_refiner.config.refusal import Refused
from interp_refiner.core import BadValue, suggestion

ITEM = re.compile(r"""'[^']*'|"[^"]*"|[^,]+""")  # of a list


@dataclass(frozen=True)
class CommandLine:
    """The parsed arguments.

    Attributes:
        arguments: all of them, as Hydra reads them.
        overrides: those that change the config.
        options: those of Hydra itself, as ``multirun``, ``config_name`` and ``config_dir``.
    """

    arguments: list[str]
    overrides: list[str]
    options: Namespace

    @classmethod
    def read(cls, arguments: Sequence[str], texts: Collection[str]) -> "CommandLine":
        """Reads arguments; ``texts`` are the settings whose values are plain text, see :func:`as_meant`.

        Raises:
            BadValue, Refused: an unknown option, or no such folder of config groups.
        """
        parser = ArgumentParser(parents=[get_args_parser()], add_help=False, allow_abbrev=False, exit_on_error=False)
        try:
            options, unknown = parser.parse_known_intermixed_args(list(arguments))
        except ArgumentError as error:
            raise Refused(str(error)) from None
        if unknown:
            plain = unknown[0].lstrip("-")
            flags = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
            near = f"; a setting has no dashes: {plain}" if "=" in plain else suggestion(unknown[0], flags)
            raise Refused(f"{unknown[0]}: no such option{near}")
        if options.config_dir is not None and not Path(options.config_dir).is_dir():
            raise BadValue("--config-dir", options.config_dir, "a folder of config groups")
        words = [] if options.shell_completion else options.overrides
        meant = {text: as_meant(text, texts, options.multirun) for text in words}
        return cls([meant.get(argument, argument) for argument in arguments], list(meant.values()), options)

    def has(self, *options: str) -> bool:
        """Whether one of Hydra's options is given."""
        return any(getattr(self.options, name) for name in options)

    @property
    def composable(self) -> list[str]:
        """The overrides, with ``--config-dir`` as a folder of ``hydra.searchpath``."""
        if self.options.config_dir is None:
            return self.overrides
        added = [text for text in self.overrides if text.lstrip("+").startswith("hydra.searchpath=")]
        folders = [f"file://{Path(self.options.config_dir).absolute()}"]
        for value in (parsed(text).value() for text in added):
            folders += map(str, value if isinstance(value, list) else [value])
        rest = [text for text in self.overrides if text not in added]
        return [*rest, assigned("hydra.searchpath", folders)]


def parsed(text: str) -> Override:
    """One override; raises :class:`OverrideParseException` where it is not in Hydra's grammar."""
    return OverridesParser.create().parse_overrides([text])[0]


def text_settings(settings: type) -> list[str]:
    """The settings of a program whose values are plain text: a prompt, a path, a name."""
    hints = typing.get_type_hints(settings)
    return [name for name, hint in hints.items() if hint is str or set(typing.get_args(hint)) == {str, types.NoneType}]


def as_meant(text: str, texts: Collection[str], multirun: bool) -> str:
    """An override whose value Hydra reads literally.

    Hydra's grammar gives commas and brackets a meaning and accepts few characters beyond ASCII. So a value is quoted if
    its key is one of ``texts``, if it names an existing file or folder, or if the grammar does not accept it. If the
    grammar does not accept a list, its items are quoted. ``null``, interpolations, quoted values and the sweeps of a
    multirun do not change.
    """
    key, equals, value = text.partition("=")
    if not equals or value in ("", "null") or "${" in value:
        return text
    is_text = key.lstrip("+") in texts
    try:
        override = parsed(text)
    except OverrideParseException:
        if value[0] in "'\"" and not is_text:
            return text
        if value[0] + value[-1] == "[]" and not is_text and not os.path.exists(value):
            items = [as_meant(f"{key}={item.strip()}", [], True) for item in ITEM.findall(value[1:-1])]
            return f"{key}=[{','.join(item.partition('=')[2] for item in items)}]"
        return f"{key}={quoted(value)}"
    if value[0] in "'\"":
        return text
    plain = is_text and not (multirun and override.is_sweep_override())
    structured = override.is_sweep_override() or isinstance(override.value(), list | dict)
    return f"{key}={quoted(value)}" if plain or (structured and os.path.exists(value)) else text


def quoted(value: str) -> str:
    """A string in Hydra's grammar: in quotes, inner quotes and the backslashes before quotes escaped."""
    escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def assigned(key: str, value: object) -> str:
    """The override that sets a key to a plain value: a string, a path, a number, null, or lists and dicts of these."""
    return f"{key}={_written(value)}"


def _written(value: object) -> str:
    if isinstance(value, str | Path):
        return quoted(str(value))
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_written(item)}" for name, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(map(_written, value)) + "]"
    return "null" if value is None else str(value).lower()


def jobs(overrides: Sequence[str]) -> Iterator[list[str]]:
    """The overrides of every job of a grid; a continuous interval is represented by its start."""
    choices = {}
    for text in overrides:
        override = parsed(text)
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices[key] = [text]
        elif override.is_discrete_sweep():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            choices[key] = [f"{key}={override.value().start}"]  # type: ignore[union-attr]
    return map(list, product(*choices.values()))
