"""What programs print and log: any text unchanged, and only helpful messages of libraries."""

import io
import logging
import sys
import warnings
from collections.abc import Iterable

from rich.console import Console

WIDE = 160  # columns of a table in a file or a pipe
ESCAPES = "backslashreplace"
# Training reads an endless stream, so "batches in an epoch" means nothing. The argument that replaces DDP's deprecated
# one is not in torch 2.11. A resumed run continues in its own folder.
STALE = (
    r".*isinstance\(treespec, LeafSpec\).*",
    r"The number of training batches .* is smaller than the logging interval.*",
    r"`broadcast_buffers` is deprecated.*",
    r"Checkpoint directory .* exists and is not empty.*",
)
NO_NEWS = ("💡 Tip", "GPU available: ", "TPU available: ", "`Trainer.fit` stopped: ")  # the run prints its device


def terminal(wide: bool = False) -> Console:
    """Prints text as it is, without mark-up: a file may be called ``Cats [dQw4w9WgXcQ].mp4`` or ``:cat:``.

    Args:
        wide: tables in a file or a pipe are :data:`WIDE` columns wide; on a terminal they fold at its width.
    """
    width = WIDE if wide and not sys.stdout.isatty() else None
    return Console(highlight=False, markup=False, emoji=False, width=width)


def print_notes(notes: Iterable[str]) -> None:
    """Prints every note in one line."""
    for note in notes:
        terminal().print(f"note: {note}", soft_wrap=True)


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


def quiet_libraries() -> None:
    """Drops advertisements and warnings about other packages' internals; every other message stays."""
    for message in STALE:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.trainer.connectors.callback_connector"):
        logging.getLogger(name).addFilter(lambda record: not record.getMessage().startswith(NO_NEWS))
