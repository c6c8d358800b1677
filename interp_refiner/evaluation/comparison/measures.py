"""What runs are compared by."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from interp_refiner.evaluation import Evaluation, figure
from interp_refiner.evaluation.measures import Interval

Table = Literal["errors", "scores", "realism"]


@dataclass(frozen=True)
class Measure:
    """A figure that every run has at every level.

    Attributes:
        name: of the figure in an evaluation; ``{method}`` and ``{base}`` stand for what is measured, and against what.
        label: for people; ``{base}`` as above.
        table: of the evaluation that it is in; None for the Frechet distances.
        superlative: what the best run has.
        cost: the lower, the better.
        validation: the name of the same figure in validation, where the base is the run's own interpolation.
        digits: after the point.
        percent: shown in percent.
    """

    name: str
    label: str
    table: Literal["errors", "scores", "realism", "frechet"]
    superlative: str = "Lowest"
    cost: Callable[[float], float] = float
    validation: str | None = None
    digits: int = 3
    percent: bool = False

    def of(self, evaluation: Evaluation, method: str, level: int) -> Interval | None:
        """The figure of a method at a level; None where it was not measured, or is no number."""
        name = self.name.format(method=method, base=evaluation.baseline)
        found = figure(getattr(evaluation, self.table), name, level=level)
        return found if found is not None and math.isfinite(found.value) else None

    def of_validation(self, metrics: Mapping[str, float | None], level: int) -> Interval | None:
        """The figure of a run's last validation, which has no interval."""
        value = metrics.get(f"val/level_{level}/{self.validation}")
        finite = value is not None and math.isfinite(value)
        return Interval(float(value), math.nan, math.nan) if value is not None and finite else None


def distance_from_one(value: float) -> float:
    """Of a ratio to the truth."""
    return abs(value - 1)


MSE = Measure("mse_ratio/{method}/{base}", "MSE / {base}", "errors", validation="ratio")
IMPROVED = Measure(
    "mse_better/{method}/{base}",
    "clips improved",
    "errors",
    "Most",
    lambda share: -share,
    validation="improved_share",
    percent=True,
)
FRECHET = Measure("frechet_ratio/{method}/{base}", "Frechet / {base}", "frechet")
AT_KEYFRAMES = Measure(
    "boundary_motion/{method}", "motion at keyframes", "realism", "Most real", distance_from_one, digits=2
)
IN_GAPS = Measure("inside_motion/{method}", "motion in gaps", "realism", "Most real", distance_from_one, digits=2)
PSNR = Measure("psnr/{method}", "PSNR dB", "scores", "Highest", lambda value: -value, digits=2)

MEASURES = (MSE, IMPROVED, FRECHET, AT_KEYFRAMES, IN_GAPS, PSNR)
HEADLINES = (MSE, FRECHET)  # squared error alone rewards blur, realism alone rewards any video
