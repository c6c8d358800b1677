"""Captions of videos: text files beside them, or one table for all."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from posixpath import normpath
from typing import Any

from interp_refiner.core import BadValue

BESIDE = (".txt", ".caption")  # each file is one caption, its lines joined
FILE, CAPTION = ("file", "video", "file_name"), ("caption", "text")  # accepted names of the two columns
ALLOWED = f"a csv, jsonl or json with {' | '.join(FILE)} and {' | '.join(CAPTION)}"


def captions_beside(video: Path) -> tuple[str, ...]:
    """The captions in ``a.txt`` and ``a.caption`` beside ``a.mp4``; raises ValueError for a file that is not text."""
    found = []
    for file in (video.with_suffix(suffix) for suffix in BESIDE):
        try:
            found += [one_line(file.read_text(encoding="utf-8-sig"))] if file.is_file() else []
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"its caption {file.name} cannot be read as UTF-8: {error}") from error
    return tuple(dict.fromkeys(filter(None, found)))


def read_captions(path: Path) -> dict[str, tuple[str, ...]]:
    """The captions of every video named in a csv, jsonl or json table (an array of rows), in the table's order.

    A video may have several captions: several rows, or a list in one row of jsonl or json.

    Raises:
        BadValue: no such table, one without rows, or a row without these columns; the message gives its number.
    """
    found: dict[str, list[str]] = {}
    try:
        for number, row in enumerate(_rows(path), 1):
            name, said = (_value(row, names) for names in (FILE, CAPTION))
            said = [said] if isinstance(said, str) else said
            if not isinstance(name, str) or not isinstance(said, list) or not all(isinstance(s, str) for s in said):
                raise BadValue("captions", path, f"{ALLOWED}; row {number} has {', '.join(map(str, row)) or 'nothing'}")
            found.setdefault(normpath(name), []).extend(map(one_line, said))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError, csv.Error) as error:
        raise BadValue("captions", path, f"{ALLOWED}: {error}") from error
    if not found:
        raise BadValue("captions", path, f"{ALLOWED}; it has no rows")
    return {name: tuple(dict.fromkeys(filter(None, said))) for name, said in found.items()}


def one_line(text: str) -> str:
    """The words of ``text``, separated by single spaces."""
    return " ".join(text.split())


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with open(path, newline="", encoding="utf-8-sig") as file:  # Excel writes a byte order mark
        if path.suffix not in (".jsonl", ".json"):
            reader = csv.DictReader(file)
            for row in reader:
                if any(surplus := row.pop(None, [])):  # type: ignore[call-overload]
                    more = f'{", ".join(surplus).strip()!r} is in no column; put "..." around a caption with commas'
                    raise csv.Error(f"line {reader.line_num}: {more}")
                yield {name: value or "" for name, value in row.items()}
            return
        rows: Iterable[Any] = map(json.loads, filter(str.strip, file))
        if path.suffix == ".json":
            rows = stored if isinstance(stored := json.load(file), list) else [stored]
        yield from (row if isinstance(row, dict) else {} for row in rows)


def _value(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if name in row), None)
