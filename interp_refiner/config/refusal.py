"""Reports mistakes of the user in one line each.

A mistake is a :class:`BadValue`, a :class:`MissingExtra` or a :class:`Refused`. Bad data, or a source that does not
answer, are a :class:`DataFault` and reported in the same way. Every other exception is a bug and keeps its stack trace.
"""

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from interp_refiner.config.nodes import is_written, walk
from interp_refiner.core import BadValue, DataFault, MissingExtra, Stopped

EXIT_REFUSED = 2
NO_HOME = "Could not determine home directory."
LONG = 200  # bytes; a longer file name may be too long once a suffix is added
_LAUNCHED = "train_ddp_process_"  # job names that Lightning gives to the processes it launches


class Refused(Exception):
    """A mistake of the user other than a bad value of one argument; the message names the config key, if any."""


MISTAKES = (BadValue, MissingExtra, Refused, DataFault)


def with_key(error: BadValue, key: str) -> BadValue:
    """The same error with the config path in front of the argument's name.

    A component that is wrong as a whole names itself after its group: ``text``, not ``text.text``.
    """
    whole = error.name == key.rpartition(".")[2]
    name = key if whole else f"{key}.{error.name}" if key else error.name
    return BadValue(name, error.value, error.allowed, error.options)


def locate(error: Exception, cfg: DictConfig) -> Exception:
    """Adds the config path to a bad argument's name, if only one place in the config has that name.

    Of several places, it is the one with the refused value, or with the folder that holds a refused path. Objects can
    also be refused long after they were built, when the key is no longer known (``DataModule.setup``).
    """
    if not isinstance(error, BadValue) or "." in error.name or error.name in cfg:
        return error
    names = [(key, node, name) for key, node, name in walk(cfg) if name == error.name]
    entries = [(key, node[name]) for key, node, name in names if not OmegaConf.is_missing(node, name)]
    inside = [(key, str(value)) for key, value in entries if f"{error.value}/".startswith(f"{value}/")]
    nearest = max((len(value) for _, value in inside), default=0)
    found = [(key, value) for key, value in inside if len(value) == nearest] or entries
    return with_key(error, found[0][0].rpartition(".")[0]) if len(found) == 1 else error


@contextmanager
def short_names(cfg: DictConfig) -> Iterator[None]:
    """Reports two errors of path functions as mistakes: a file name that is too long, and ``~name`` of an unknown user.

    Raises:
        Refused: instead of ``ENAMETOOLONG`` and of pathlib's error about the home folder; names the setting in ``cfg``
            that has the path.
    """
    try:
        yield
    except RuntimeError as error:
        if str(error) != NO_HOME:
            raise
        values = [(key, node[name]) for key, node, name in walk(cfg) if is_written(node, name)]
        found = [f"{key}={value}" for key, value in values if isinstance(value, str) and value.startswith("~")]
        raise Refused(
            f"{(*found, '~')[0]}: expected a path; there is no such user (a file ~a is written ./~a)"
        ) from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        said = str(error.filename)
        for key, node, name in walk(cfg):
            value = node[name] if is_written(node, name) else None
            parts = value.split("/") if isinstance(value, str) else []
            if any(len(os.fsencode(part)) > LONG and Path(part).stem in said for part in parts):
                said = f"{key}={value}"
                break
        raise Refused(f"{said}: expected a file name of at most 255 bytes") from error


def one_line(text: object) -> str:
    """The text in one line: every run of white space becomes one space."""
    return " ".join(str(text).split())


def later_process() -> str:
    """``"RANK=3: "`` in all processes of a run except the first, from the launcher's variables; empty in the first."""
    ranks = {name: os.environ.get(name, "0") for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")}
    return next((f"{name}={rank}: " for name, rank in ranks.items() if rank != "0"), "")


def reported(error: Exception, message: str = "", keep_trace: bool = False) -> SystemExit:
    """Prints a mistake, or why a run stopped, in one line on stderr, and returns the exit to raise.

    The line has the rank in front in all processes of a run except the first, and the stack trace above it if that was
    asked for. A process that Lightning's launcher started, and that stops together with the first process, reports
    success. Otherwise the launcher would kill all processes, the first one too.
    """
    if keep_trace:
        traceback.print_exception(error)
    print(one_line(f"{later_process()}{message or error}"), file=sys.stderr, flush=True)
    launched = HydraConfig.initialized() and HydraConfig.get().job.name.startswith(_LAUNCHED)
    if isinstance(error, Stopped):
        return SystemExit(0 if launched and error.agreed else error.exit_code)
    return SystemExit(error.exit_code if isinstance(error, DataFault) else EXIT_REFUSED)
