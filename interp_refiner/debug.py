"""The whole line on tiny data in one process: ``make debug``, or ``python -m interp_refiner.debug``.

It stops at the first step that is wrong, with its name, and takes a minute: for before a long run, or after a change.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from omegaconf import DictConfig
from rich.console import Console

from interp_refiner.config import Refused, Settings, call, main
from interp_refiner.config.refusal import MISTAKES, one_line
from interp_refiner.core import BadValue, Stopped
from interp_refiner.training.record import read_record

Step: TypeAlias = Callable[[Path, list[str]], None]


@dataclass
class DebugSettings(Settings):
    """Top-level values of ``conf/debug.yaml``.

    Attributes:
        steps: optimizer steps of each training.
        clips: that are trained on; an eighth of them, at least 4, is held out.
        overrides: of both trainings, such as ``corruption=gauss``.
    """

    steps: int = 4
    clips: int = 32
    overrides: list[str] = field(default_factory=list)


@main("debug", DebugSettings)
def debug(cfg: DictConfig) -> None:
    """Trains an interpolator, trains a refiner on it, evaluates, samples, and writes a report."""
    if cfg.steps < 1 or cfg.clips < 8:
        raise BadValue("steps" if cfg.steps < 1 else "clips", min(cfg.steps, cfg.clips), "at least 1 step and 8 clips")
    folder, overrides = Path(cfg.paths.output_dir), [*tiny(cfg), *cfg.overrides]
    console, start = Console(highlight=False), time.perf_counter()
    for number, (name, step) in enumerate(LINE.items(), 1):
        console.print(f"\n[bold]step {number} of {len(LINE)}, {name}[/bold]")
        try:
            step(folder, overrides)
        except Exception as error:
            place = f"step {number} of {len(LINE)}, {name}: {one_line(error)}"
            if isinstance(error, MISTAKES):
                raise Refused(place) from error
            if isinstance(error, Stopped):
                raise Stopped(place, error.exit_code) from error
            raise RuntimeError(place) from error
    console.print(f"\nall {len(LINE)} steps are right, {time.perf_counter() - start:.0f} s: {folder}", soft_wrap=True)


def tiny(cfg: DictConfig) -> list[str]:
    """Data and sizes with which a training takes seconds."""
    sizes = {"num_train": cfg.clips, "num_val": max(4, cfg.clips // 8)}
    data = [f"data.root={cfg.paths.output_dir}/data", *(f"data.writer.{name}={n}" for name, n in sizes.items())]
    length = [f"trainer.max_steps={cfg.steps}", f"trainer.val_check_interval={cfg.steps}", "data.val_samples=4"]
    quiet = ["log_book=null", "callback.progress=null", "trainer.enable_model_summary=false", f"seed={cfg.seed}"]
    return ["data=small_shapes", *data, *length, *quiet, "backbone.num_layers=2", "trainer.detect_anomaly=true"]


def train_interpolator(folder: Path, overrides: list[str]) -> None:
    """``+experiment=flow_warp``."""
    _train(folder / "interpolator", "+experiment=flow_warp", *overrides)


def train_refiner(folder: Path, overrides: list[str]) -> None:
    """``+experiment=gt_keyframes`` on the interpolator before it."""
    learned = ["interpolator=flow_warp_pixels", f"interpolator.checkpoint={folder / 'interpolator'}"]
    _train(folder / "refiner", "+experiment=gt_keyframes", *learned, *overrides)


def _train(run: Path, *overrides: str) -> None:
    from interp_refiner.train import train  # here: each step imports what it needs, so that it is the one that fails

    call(train, run, *overrides)
    record = read_record(run)
    require(record is not None and record.status == "finished", f"{run}: the run has not finished")
    wrong = [name for name, value in (record.metrics if record else {}).items() if not math.isfinite(value or 0.0)]
    require(not wrong, f"{run}: not finite: {', '.join(wrong)}")


def evaluate(folder: Path, _: list[str]) -> None:
    """``interp_refiner.evaluate`` on the held-out clips."""
    from interp_refiner.evaluate import evaluate
    from interp_refiner.evaluation import Evaluation

    call(evaluate, folder / "evaluation", f"checkpoint={folder / 'refiner'}", "batch_size=4")
    found = Evaluation.load(folder / "evaluation" / "evaluation.json")
    require(bool(found.errors and found.realism), f"{folder}/evaluation/evaluation.json holds no figures")


def sample(folder: Path, _: list[str]) -> None:
    """``interp_refiner.sample`` of two held-out clips, whose keyframes have to be exact."""
    from interp_refiner.sample import sample

    call(sample, folder / "samples", f"checkpoint={folder / 'refiner'}", "clips=2")
    rows = json.loads((folder / "samples" / "samples.json").read_text())["samples"]
    require(len(rows) == 2 and all(row["given_frames_exact"] for row in rows), "a given frame has been changed")


def report(folder: Path, _: list[str]) -> None:
    """``interp_refiner.report`` of the refiner's run."""
    from interp_refiner.report import report

    call(report, folder / "report", f"runs=['{folder / 'refiner'}']")
    require((folder / "report" / "report.html").stat().st_size > 0, "the report is empty")


def require(holds: bool, otherwise: str) -> None:
    """Stops the line where something is wrong that no program has found."""
    if not holds:
        raise Stopped(otherwise)


LINE: dict[str, Step] = {
    "train the interpolator": train_interpolator,
    "train the refiner": train_refiner,
    "evaluate": evaluate,
    "sample": sample,
    "report": report,
}

if __name__ == "__main__":
    debug()
