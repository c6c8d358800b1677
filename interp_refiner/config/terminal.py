"""What programs print."""

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
