"""The console that programs print to."""

import io
import sys

from rich.console import Console

WIDE = 160  # columns of a table in a file or a pipe


def terminal(wide: bool = False) -> Console:
    """Prints text as it is: a file called ``Cats [dQw4w9WgXcQ].mp4`` or ``:cat:`` has no mark-up in its name.

    Args:
        wide: tables fold at a terminal's width, and nowhere in a file or a pipe.
    """
    width = WIDE if wide and not sys.stdout.isatty() else None
    return Console(highlight=False, markup=False, emoji=False, width=width)


def print_any_name() -> None:
    """Has names of files printed whose bytes are no text of the terminal's encoding, with escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
