"""The console that programs print to, and the file that they log to."""

import io
import logging
import sys

from rich.console import Console

WIDE = 160  # columns of a table in a file or a pipe
ESCAPES = "backslashreplace"


def terminal(wide: bool = False) -> Console:
    """Prints text as it is, without mark-up: a file may be called ``Cats [dQw4w9WgXcQ].mp4`` or ``:cat:``.

    Args:
        wide: tables in a file or a pipe are :data:`WIDE` columns wide; on a terminal they fold at its width.
    """
    width = WIDE if wide and not sys.stdout.isatty() else None
    return Console(highlight=False, markup=False, emoji=False, width=width)


def print_any_name() -> None:
    """Lets file names be printed that the terminal's encoding cannot show, with escapes."""
    for stream in (sys.stdout, sys.stderr):
        _with_escapes(stream)


def log_any_name() -> None:
    """The same for log files, once Hydra has opened them."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.encoding, handler.errors = "utf-8", ESCAPES  # for a file that is opened later
            _with_escapes(handler.stream)


def _with_escapes(stream: object) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=ESCAPES)
