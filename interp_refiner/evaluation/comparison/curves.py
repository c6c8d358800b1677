"""Reads the logged scalars of runs from TensorBoard's event files or the file of the CSV logger."""

import csv
import logging
import math
from pathlib import Path
from typing import TypeAlias

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Curves: TypeAlias = dict[str, tuple[list[int], list[float]]]
"""Steps and values by name, steps ascending."""

logging.getLogger("tensorboard").setLevel(logging.WARNING)  # else it logs every file that it opens

EVERYTHING, ONE = 0, 1
SIZES = {"scalars": EVERYTHING, "images": ONE, "tensors": ONE}  # skip pictures, which are large and not needed


def read_curves(run: Path) -> Curves:
    """All scalars of a run folder; unfinished files are read as far as possible; a resumed run's values win."""
    points: dict[str, dict[int, float]] = {}
    for folder in sorted({path.parent for path in run.glob("*/events.out.tfevents.*")}):
        events = EventAccumulator(str(folder), size_guidance=SIZES)
        events.Reload()
        for name in events.Tags()["scalars"]:
            points.setdefault(name, {}).update({event.step: event.value for event in events.Scalars(name)})
    for path in sorted(run.glob("*/metrics.csv")):
        for name, found in _csv(path).items():
            points.setdefault(name, {}).update(found)
    return {name: (sorted(found), [found[step] for step in sorted(found)]) for name, found in points.items()}


def _csv(path: Path) -> dict[str, dict[int, float]]:
    """Reads Lightning's table: one row per step, most cells empty; an incomplete row is left out."""
    found: dict[str, dict[int, float]] = {}
    with path.open(newline="", errors="replace") as file:
        for row in csv.DictReader(file, quoting=csv.QUOTE_NONE):
            step = _number(row.get("step"))
            cells = {name: _number(cell) for name, cell in row.items() if name not in ("step", "epoch", None)}
            for name, value in cells.items():
                if step is not None and value is not None:
                    found.setdefault(name, {})[int(step)] = value
    return found


def _number(cell: str | None) -> float | None:
    try:
        value = float(cell or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
