"""Parses the arguments of a program, and quotes plain values so that Hydra reads them as they were typed."""

import re
import types
import typing
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException

from interp_refiner.config.refusal import Refused
from interp_refiner.core import BadValue, suggestion

ITEM = re.compile(r"""'[^']*'|"[^"]*"|[^,]+""")  # of a list
SHOWN = "shown"  # Hydra's own commands: nothing is run


class Parser(ArgumentParser):
    """Raises :class:`Refused` instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise Refused(message)


@dataclass(frozen=True)
class CommandLine:
    """The parsed arguments.

    Attributes:
        arguments: all of them, as Hydra reads them.
        overrides: those that change the config.
        multirun: whether this is a sweep.
        config_name: another primary config than the program's own, or None.
        config_dir: a folder with more config groups, or None.
        only_shown: nothing is run: help, a look at the config, shell completion.
        asks_for_help: whether this is ``--help``.
        unread: the config is not composed: for shell completion, or for the config of a saved run (``--config-path``),
            which Lightning passes to the processes that it starts.
    """

    arguments: list[str]
    overrides: list[str]
    multirun: bool
    config_name: str | None
    config_dir: str | None
    only_shown: bool
    unread: bool
    asks_for_help: bool = False

    @classmethod
    def read(cls, arguments: Sequence[str], texts: Collection[str]) -> "CommandLine":
        """Reads arguments; ``texts`` are the settings whose values are plain text, see :func:`as_meant`.

        Raises:
            BadValue, Refused: an unknown option, or no such folder of config groups.
        """
        parser = Parser(add_help=False, allow_abbrev=False, argument_default=SUPPRESS)
        parser.add_argument("overrides", nargs="*", default=[])
        parser.add_argument("--multirun", "-m", action="store_true", default=False)
        for name, short in (("--config-name", "-cn"), ("--config-dir", "-cd"), ("--config-path", "-cp")):
            parser.add_argument(name, short, default=None)
        parser.add_argument("--experimental-rerun", default=None)
        parser.add_argument("--package", "-p", default=None)
        for name, short in (("--cfg", "-c"), ("--info", "-i")):
            parser.add_argument(name, short, nargs="?", dest=SHOWN)
        parser.add_argument("--run", "-r", action="store_true")
        parser.add_argument("--shell-completion", "-sc", action="store_true", default=False)
        parser.add_argument("--help", "-h", action="store_true", default=False)
        for name in ("--hydra-help", "--version", "--resolve"):
            parser.add_argument(name, action="store_true", dest=SHOWN)
        found, unknown = parser.parse_known_intermixed_args(list(arguments))
        if unknown:
            plain = unknown[0].lstrip("-")
            flags = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
            near = f"; a setting has no dashes: {plain}" if "=" in plain else suggestion(unknown[0], flags)
            raise Refused(f"{unknown[0]}: no such option{near}")
        if found.config_dir is not None and not Path(found.config_dir).is_dir():
            raise BadValue("--config-dir", found.config_dir, "a folder of config groups")
        words = [] if found.shell_completion else found.overrides
        meant = {text: as_meant(text, texts, found.multirun) for text in words}
        return cls(
            arguments=[meant.get(argument, argument) for argument in arguments],
            overrides=list(meant.values()),
            multirun=found.multirun,
            config_name=found.config_name,
            config_dir=found.config_dir,
            only_shown=hasattr(found, SHOWN) or found.help,
            asks_for_help=found.help,
            unread=bool(found.config_path or found.experimental_rerun or found.shell_completion),
        )

    @property
    def composable(self) -> list[str]:
        """The overrides, with ``config_dir`` as a folder of ``hydra.searchpath``."""
        if self.config_dir is None:
            return self.overrides
        added = [text for text in self.overrides if text.lstrip("+").startswith("hydra.searchpath=")]
        folders = [f"file://{Path(self.config_dir).absolute()}"]
        for text in added:
            value = parsed(text).value()
            folders += [str(folder) for folder in (value if isinstance(value, list) else [value])]
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

    Commas and brackets have a meaning in Hydra's grammar, and it knows few letters beyond ASCII. So a value is quoted
    if it belongs to one of ``texts``, names an existing file or folder, or is not in the grammar; of a list that is
    not, the items are. ``null``, interpolations, quoted values and the sweeps of a multirun do not change.
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
        if value[0] + value[-1] == "[]" and not is_text and not _exists(value):
            items = [as_meant(f"{key}={item.strip()}", [], True) for item in ITEM.findall(value[1:-1])]
            return f"{key}=[{','.join(item.partition('=')[2] for item in items)}]"
        return f"{key}={quoted(value)}"
    if value[0] in "'\"":
        return text
    plain = is_text and not (multirun and override.is_sweep_override())
    structured = override.is_sweep_override() or isinstance(override.value(), list | dict)
    return f"{key}={quoted(value)}" if plain or (structured and _exists(value)) else text


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


def fixed(overrides: Sequence[str]) -> list[str]:
    """The overrides that every job of a sweep has."""
    return [text for text in overrides if not parsed(text).is_sweep_override()]


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


def _exists(value: str) -> bool:
    try:
        return Path(value).exists()
    except OSError:  # too long for a file name
        return False
