"""Runs every step on tiny data in one process: ``make debug``, or ``python -m interp_refiner.debug``.

It stops at the first step that fails and names it. It takes minutes; use it before a long run or after a change.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from interp_refiner.config import MISTAKES, Refused, Settings, main, terminal
from interp_refiner.config.refusal import one_line
from interp_refiner.core import BadValue, Stopped
from interp_refiner.evaluation.programs.line import LINE, tiny


@dataclass
class DebugSettings(Settings):
    """Top-level values of ``conf/debug.yaml``.

    Attributes:
        steps: optimizer steps of each training.
        clips: number of clips; an eighth of them, at least 4, is held out.
        overrides: of both trainings, such as ``corruption=gauss``.
    """

    steps: int = 4
    clips: int = 32
    overrides: list[str] = field(default_factory=list)


@main("debug", DebugSettings)
def debug(cfg: DictConfig) -> None:
    """Trains an interpolator and a refiner, evaluates and samples, does the same from a prompt, and writes a report."""
    for name, least in (("steps", 1), ("clips", 8)):
        if cfg[name] < least:
            raise BadValue(name, cfg[name], f"at least {least}")
    folder, overrides = Path(cfg.paths.output_dir), [*tiny(cfg), *cfg.overrides]
    console, start = terminal(), time.perf_counter()
    for number, (name, step) in enumerate(LINE.items(), 1):
        console.print(f"\nstep {number} of {len(LINE)}, {name}", style="bold")
        try:
            step(folder, overrides)
        except Exception as error:
            place = f"step {number} of {len(LINE)}, {name}: {one_line(error)}"
            if isinstance(error, MISTAKES):
                raise Refused(place) from error
            if isinstance(error, Stopped):
                raise Stopped(place, error.exit_code) from error
            raise RuntimeError(place) from error
    console.print(f"\nall {len(LINE)} steps passed, {time.perf_counter() - start:.0f} s: {folder}", soft_wrap=True)


if __name__ == "__main__":
    debug()
