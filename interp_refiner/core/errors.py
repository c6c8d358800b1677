"""Errors that name the setting, its value and what is allowed."""

import difflib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

EXIT_PREEMPTED, EXIT_INTERRUPTED = 75, 130  # EX_TEMPFAIL of sysexits.h; 128 + SIGINT, as shells report it


class BadValue(ValueError):
    """A setting has a value that is not allowed.

    Args:
        name: the argument's own name, for example ``"sigma"``; entry points add the config path in front.
        value: the wrong value.
        allowed: in words, which values are allowed.
        options: the allowed values, if they can be listed; the message suggests the nearest one.
    """

    def __init__(self, name: str, value: object, allowed: str, options: Iterable[object] = ()):
        self.name, self.value, self.allowed, self.options = name, value, allowed, tuple(options)
        super().__init__(f"{name}={value}: expected {allowed}{suggestion(value, self.options)}")


class DataFault(Exception):
    """The data or its source is faulty, not the program; the user sees the message as one line.

    Attributes:
        exit_code: exit code of a program that this error ends.
    """

    exit_code = 2


class MissingExtra(ImportError):
    """A requested feature needs an optional dependency that is not installed.

    Args:
        feature: the requested feature.
        package: the package that it needs.
        extra: this project's extra that installs the package.
        source: where to build the package from, if no index has it; replaces the extra.
    """

    def __init__(self, feature: str, package: str, extra: str, source: str = ""):
        how = f"build it from {source}" if source else f"pip install 'interp_refiner[{extra}]'"
        super().__init__(f"{feature} needs {package}, which is not installed: {how}")


class Stopped(Exception):
    """A run ends early for a reason that is not a bug; the user sees the message as one line.

    Args:
        message: what happened, what is saved, and what to do next.
        exit_code: 3 if a person has to look at it; 75 (try again) after a preemption, 130 after Ctrl-C.
        agreed: whether all processes of the run stop together, so that none has to end the others.
    """

    def __init__(self, message: str, exit_code: int = 3, agreed: bool = True):
        self.exit_code, self.agreed = exit_code, agreed
        super().__init__(message)


def suggestion(value: object, options: Iterable[object]) -> str:
    """``", did you mean 'gauss'?"`` for the option nearest to ``value``, or an empty string."""
    near = difflib.get_close_matches(str(value), [str(option) for option in options], n=1, cutoff=0.45)
    return f"; did you mean '{near[0]}'?" if near else ""


@contextmanager
def one_fault(name: str, value: object, allowed: str) -> Iterator[None]:
    """Turns any error that a library raises on a damaged or foreign file into a :class:`BadValue`.

    Args:
        name, value: the setting that names the file.
        allowed: what the file should be; the message adds the first sentence of the library's error.
    """
    try:
        yield
    except (BadValue, MissingExtra):
        raise
    except Exception as error:
        sentence = " ".join(str(error).split()).partition(". ")[0]
        raise BadValue(name, value, f"{allowed}: {sentence or type(error).__name__}") from error


def non_negative(name: str, value: float, meaning: str) -> float:
    """Returns ``value`` if it is a finite number >= 0, else raises :class:`BadValue`; NaN would pass ``value < 0``."""
    if not 0 <= value < math.inf:
        raise BadValue(name, value, f"a finite number >= 0, {meaning}")
    return value


def positive(name: str, value: int | float, meaning: str = "") -> int | float:
    """Returns ``value`` if it is a finite number > 0, else raises :class:`BadValue`; NaN would pass ``value <= 0``."""
    if not 0 < value < math.inf:
        raise BadValue(name, value, f"a finite number > 0{meaning and f', {meaning}'}")
    return value


def at_least(least: int, /, **values: int) -> None:
    """Raises :class:`BadValue` if one of the named arguments is below ``least``."""
    for name, value in values.items():
        if value < least:
            raise BadValue(name, value, f"at least {least}")


def check_least(settings: object, **least: int) -> None:
    """Raises :class:`BadValue` if one of the named attributes is below its least value."""
    for name, lowest in least.items():
        at_least(lowest, **{name: getattr(settings, name)})


def choice(name: str, value: str, options: Iterable[str]) -> str:
    """Returns ``value`` if it is one of ``options``, else raises :class:`BadValue` with the nearest one."""
    options = tuple(options)
    if value not in options:
        raise BadValue(name, value, " | ".join(options), options)
    return value
