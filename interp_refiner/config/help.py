"""The text of ``--help``: Hydra's own, with the comments of the YAML files beside the values."""

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig

LINE = re.compile(r"^(?P<indent> *)(?P<key>[^\s#:-][^:#]*):(?:\s|$)")
COMMENT = re.compile(r"\s#\s(?P<text>[^#]*)$")
PACKAGE = re.compile(r"# @package (?P<place>\S+)")
COLUMN = 44  # where comments begin, unless a value is longer


def keys_of(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every line of a YAML file with its dotted key; the key is empty if the line does not start a value."""
    parents: list[tuple[int, str]] = []
    for line in lines:
        found = LINE.match(line)
        if found is None:
            yield "", line
            continue
        indent = len(found["indent"])
        parents = [(depth, key) for depth, key in parents if depth < indent] + [(indent, found["key"])]
        yield ".".join(key for _, key in parents), line


def comments_of(cfg: DictConfig, config_name: str, folders: Sequence[Path]) -> dict[str, str]:
    """The comments of the files in ``folders`` that a config was composed of, by dotted key."""
    chosen = {"": config_name} | {group: option for group, option in cfg.hydra.runtime.choices.items() if option}
    found: dict[str, str] = {}
    for group, option in chosen.items():
        name, _, package = group.partition("@")
        file = next((f for folder in folders if (f := folder / name / f"{option}.yaml").is_file()), None)
        if file is None:
            continue
        lines = file.read_text().splitlines()
        said = PACKAGE.match(lines[0]) if lines else None
        prefix = said["place"].replace("_global_", "") if said else package or name.replace("/", ".")
        for key, line in keys_of(lines):
            if key and (comment := COMMENT.search(line)):
                found[f"{prefix}.{key}".lstrip(".")] = comment["text"]
    return found


def commented(text: str, comments: dict[str, str]) -> str:
    """YAML with a comment after every value that has one."""
    lines = keys_of(text.split("\n"))
    return "\n".join(f"{line:<{COLUMN}} # {comments[key]}" if key in comments else line for key, line in lines)


def print_help(show: Callable[[], None], cfg: DictConfig, config_name: str, folders: Sequence[Path]) -> None:
    """Prints what ``show`` prints, with comments."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            show()
    finally:  # ``show`` ends the program
        print(commented(printed.getvalue(), comments_of(cfg, config_name, folders)), end="")
