"""The console that programs print to."""

import io
import sys

from rich.console import Console

WIDE = 160  # columns of a table in a file or a pipe


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
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
