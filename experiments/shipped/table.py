"""The tables of README.md: ``python experiments/shipped/table.py <evaluation.json> <evaluation of the views.json>``.

The first evaluation is of samples, the second of the mean of mirrored views, on more clips. Errors are relative to the
interpolation of the run, the best of the project. The first table has one row per method and level, the second is of
the mean, the third has one row per target.
"""

import sys
from pathlib import Path

from interp_refiner.core import Interval
from interp_refiner.evaluation import Evaluation
from interp_refiner.evaluation.records.markdown import markdown_table

MEAN, VIEWS, SAMPLE = "one_jump", "one_jump mirrored", "bridge"
WHITE, OWN = "noise of its size", "noise of its size and law"
KEYFRAMES = {1: 8, 2: 5}
METHODS = [MEAN, SAMPLE, "quadratic_pixels", "linear", WHITE, OWN, "shuffled keyframes", "blurred truth"]
PLAIN = ["psnr", "ssim", "frechet", "boundary_motion", "inside_motion", "flicker", "high_frequency"]


class Figures:
    """The figures of an evaluation, and the name of its interpolation."""

    def __init__(self, path: Path):
        self.found = Evaluation.load(path)
        self.base = next(name for name in self.found.baselines if name != "linear")

    def value(self, name: str, method: str, level: int, against: bool = False) -> float:
        """A figure; NaN if there is none."""
        record = self.found.record(name, method, self.base if against else None, level=level)
        return record.value if record is not None else float("nan")

    def interval(self, name: str, method: str, level: int) -> str:
        """A figure relative to the interpolation, with its interval."""
        record = self.found.record(name, method, self.base, level=level)
        if record is None:
            return "–"
        found = Interval(record.value, record.low, record.high)
        return f"{found.value:.3f} ({found.low:.3f}..{found.high:.3f})"

    def row(self, method: str, level: int) -> list[str]:
        """A line of the table of methods."""
        name = self.base if method == METHODS[2] else method
        better = self.value("mse_better", name, level, against=True)
        plain = [self.value(measure, name, level) for measure in PLAIN]
        digits = (1, 3, 3, 2, 2, 2, 2)
        shown = ["–" if x != x else f"{x:.{n}f}" for x, n in zip(plain, digits, strict=True)]
        share = "–" if better != better else f"{100 * better:.0f}%"
        return [str(KEYFRAMES[level]), name, self.interval("mse_ratio", name, level), share, *shown]

    def targets(self, level: int, of_views: "Figures") -> list[list[str]]:
        """Targets and measured values."""
        mean, views = (of_views.value("mse_ratio", method, level, against=True) for method in (MEAN, VIEWS))
        better = of_views.value("mse_better", MEAN, level, against=True)
        most = (0.52, 0.58)[level - 1]
        sample = self.value("mse_ratio", SAMPLE, level, against=True)
        frechet = {n: self.value("frechet", SAMPLE, level) / self.value("frechet", n, level) for n in (WHITE, OWN)}
        aims = [
            ("mean: MSE / best interpolation", f"<= {most}", mean, mean <= most),
            ("mean of four mirrored views: the same", f"<= {most}", views, views <= most),
            ("mean: clips improved", ">= .96", better, better >= 0.96),
            ("sample: MSE / best interpolation", "<= 1.15", sample, sample <= 1.15),
            ("sample: Frechet / noise of its size", "<= .6", frechet[WHITE], frechet[WHITE] <= 0.6),
            ("sample: Frechet / noise of its size and law", "–", frechet[OWN], frechet[OWN] <= 0.6),
            *(
                (f"sample: {name}", f"{low} to {high}", x, low <= x <= high)
                for name, low, high in [
                    ("high_frequency", 0.8, 1.2),
                    ("flicker", 0.85, 1.15),
                    ("boundary_motion", 0.85, 1.15),
                    ("inside_motion", 0.85, 1.15),
                    ("spread_skill", 0.8, 1.2),
                ]
                for x in [self.value(name, SAMPLE, level)]
            ),
        ]
        return [
            [str(KEYFRAMES[level]), what, aim, f"{x:.3f}", "met" if met else "**missed**"] for what, aim, x, met in aims
        ]


def main(path: Path, views: Path) -> None:
    """Prints the tables."""
    figures, of_views = Figures(path), Figures(views)
    headings = ["keyframes", "", "MSE / base", "clips improved", "PSNR dB", "SSIM", "Frechet"]
    headings += ["motion at keyframes", "inside gaps", "flicker", "high frequencies"]
    print(markdown_table(headings, [figures.row(m, level) for level in KEYFRAMES for m in METHODS]))
    print(markdown_table(headings, [of_views.row(m, level) for level in KEYFRAMES for m in (MEAN, VIEWS)]))
    rows = [row for level in KEYFRAMES for row in figures.targets(level, of_views)]
    print(markdown_table(["keyframes", "", "target", "measured", ""], rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
