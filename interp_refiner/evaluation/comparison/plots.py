"""Plots of several runs, drawn panel by panel: side by side in a file, or one below the other on a narrow screen."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, cycle, pairwise
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from interp_refiner.core import Interval
from interp_refiner.evaluation.comparison.compare import Comparison, Row, leaf
from interp_refiner.evaluation.records.plots import (
    COLOURS,
    FAINT,
    INK,
    canvas_of,
    legend_below,
    plain,
    reach,
    reference,
)
from interp_refiner.evaluation.records.records import Column

WIDTH, HEIGHT = 3.4, 2.9  # inches per panel
SQUARE = "s"
LINES = ("-", "--", "-.", ":")
SMOOTH = 12  # number of windows in which a loss curve is averaged
SHORT = 14  # largest number of letters of a name below an axis
MANY = 12  # runs; with more, a legend does not name them


@dataclass(frozen=True)
class Plot:
    """Panels that belong together.

    Attributes:
        name: name of the file.
        title, caption: describe the plot.
        panels: functions that each draw one panel on its axes.
    """

    name: str
    title: str
    caption: str
    panels: list[Callable[[Axes], None]]

    def figure(self) -> Figure:
        """All panels side by side, with one legend below."""
        canvas, axes = canvas_of(len(self.panels), WIDTH, HEIGHT + 0.4)
        for draw, one in zip(self.panels, axes, strict=True):
            draw(one)
        legend_below(canvas, axes)
        return canvas

    def figures(self) -> list[Figure]:
        """Every panel as a separate figure, without a legend."""
        made = []
        for draw in self.panels:
            canvas, (axes,) = canvas_of(1, WIDTH, HEIGHT)
            draw(axes)
            made.append(canvas)
        return made

    def legend(self) -> list[tuple[str, str, str]]:
        """Names, colours and line styles over all panels; :data:`SQUARE` means a marker without a line."""
        found: dict[str, tuple[str, str]] = {}
        for canvas in self.figures():
            handles, labels = canvas.axes[0].get_legend_handles_labels()
            for handle, label in zip(handles, labels, strict=True):
                line = cast(Line2D, handle[0] if isinstance(handle, ErrorbarContainer) else handle)
                found.setdefault(label, (to_hex(line.get_color()), _style(line)))
        return [(label, colour, style) for label, (colour, style) in found.items()]


def _style(line: Line2D) -> str:
    return SQUARE if line.get_marker() == SQUARE else str(line.get_linestyle())


def plots_of(comparison: Comparison) -> list[Plot]:
    """All plots for which the runs have results."""
    plots = [against(comparison, column) for column in comparison.leads]
    return [plot for plot in [*plots, frontier(comparison), learning_curves(comparison)] if plot.panels]


def series_colours(comparison: Comparison) -> dict[str, str]:
    """One colour per series, the same in all plots."""
    names = dict.fromkeys(row.series for row in comparison.rows)
    return dict(zip(names, cycle(COLOURS), strict=False))


def against(comparison: Comparison, column: Column) -> Plot:
    """A column against the key of the comparison, one panel per level, one line per series, with intervals.

    Without a key whose values are numbers, the rows are drawn side by side.
    """
    label, key = column.heading, comparison.against
    levels = [s for s in comparison.levels if any(row.figure(column, s) is not None for row in comparison.rows)]
    panels = [_panel_against(comparison, column, level) for level in levels]
    title = f"{label} against {leaf(key)}" if key is not None else label
    caption = "Missing frames of held-out clips, 95% intervals. Below 1 is better than interpolation."
    return Plot(f"{column.measure.name}_by_level", title, caption, panels)


def _panel_against(comparison: Comparison, column: Column, level: int) -> Callable[[Axes], None]:
    colours = series_colours(comparison)

    def draw(axes: Axes) -> None:
        found = [(row, figure) for row in comparison.rows if (figure := row.figure(column, level)) is not None]
        for series, colour in colours.items():
            points = [(row, figure) for row, figure in found if row.series == series]
            places = [_place(row, found) for row, _ in points]
            _errorbars(axes, places, [figure for _, figure in points], series, colour)
            if len(points) == 1 and comparison.against is not None and len(found) > 1:
                axes.axhline(points[0][1].value, color=colour, linewidth=1, alpha=0.4)
        reference(axes, "y", 1.0, comparison.base)
        plain(axes, comparison.against or "", column.heading, f"level {level}")
        if comparison.against is None:
            names = [row.label for row, _ in found]
            short = max(map(len, names), default=0) <= SHORT  # longer names are in the legend
            axes.set_xticks(range(len(names)), names if short else [""] * len(names), rotation=30, ha="right")
        axes.margins(x=0.12, y=0.15)

    return draw


def _place(row: Row, found: list[tuple[Row, Interval]]) -> float:
    return row.x if row.x is not None else float([other for other, _ in found].index(row))


def _errorbars(axes: Axes, places: list[float], figures: list[Interval], label: str, colour: str) -> None:
    """Points sorted by place and joined by a line, with error bars where there are intervals."""
    order = np.argsort(places)
    low, high = (
        zip(*([side[0] for side in reach(_bounded(figures[i]))] for i in order), strict=True) if places else ((), ())
    )
    x, y = [places[i] for i in order], [figures[i].value for i in order]
    if x:
        axes.errorbar(x, y, yerr=[low, high], label=label, color=colour, marker="o", markersize=5, capsize=2)


def _bounded(found: Interval) -> Interval:
    return found if found.bounded else Interval(found.value, found.value, found.value)


def frontier(comparison: Comparison) -> Plot:
    """Realism against error, one panel per level: down and left is better; a line joins the Pareto-optimal rows."""
    pairs = list(pairwise(comparison.leads))
    panels = [
        _panel_frontier(comparison, pair, level)
        for pair in pairs
        for level in comparison.levels
        if any(_position(row, pair, level) is not None for row in comparison.rows)
    ]
    caption = "Down (more real) and left (closer to the truth) is better. The grey line joins the Pareto-optimal runs."
    return Plot("perception_distortion", "Perception and distortion", caption, panels)


def _position(row: Row, pair: tuple[Column, Column], level: int) -> tuple[Interval, Interval] | None:
    x, y = (row.figure(column, level) for column in pair)
    return None if x is None or y is None else (x, y)


def _panel_frontier(comparison: Comparison, pair: tuple[Column, Column], level: int) -> Callable[[Axes], None]:
    colours = series_colours(comparison)

    def draw(axes: Axes) -> None:
        found = [(row, place) for row in comparison.rows if (place := _position(row, pair, level)) is not None]
        for row, (x, y) in found:
            bars: dict[str, Any] = {
                "xerr": reach(_bounded(x)),
                "yerr": reach(_bounded(y)),
                "elinewidth": 1,
                "alpha": 0.9,
            }
            label, colour = row.series, colours[row.series]
            shown = label if label not in axes.get_legend_handles_labels()[1] else None
            axes.errorbar(x.value, y.value, color=colour, label=shown, marker="o", markersize=5, linestyle="", **bars)
            if row.x is not None:
                axes.annotate(
                    f"{row.x:g}", (x.value, y.value), (4, 4), textcoords="offset points", fontsize=8, color=colour
                )
        best = undominated([(x.value, y.value) for _, (x, y) in found])
        axes.plot(*zip(*best, strict=True), color=FAINT, linewidth=1, zorder=0)
        axes.plot(1, 1, marker=SQUARE, color=INK, fillstyle="none", linestyle="", label=comparison.base, markersize=8)
        plain(axes, pair[0].heading, pair[1].heading, f"level {level}")
        axes.margins(0.12)

    return draw


def undominated(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto-optimal points (lower is better in both coordinates), from left to right."""
    ordered = sorted(points)
    lowest = accumulate((y for _, y in ordered), min)
    before = [float("inf"), *lowest]
    return [(x, y) for (x, y), bound in zip(ordered, before, strict=False) if y < bound]


def learning_curves(comparison: Comparison) -> Plot:
    """Training loss, averaged over windows, and the validation error ratio, against optimizer steps."""
    wanted = {"train/loss": "training loss", "val/mean/ratio": "validation: error / interpolation's"}
    logged = {name for run in comparison.runs for name in run.curves}
    panels = [_panel_curves(comparison, name, label) for name, label in wanted.items() if name in logged]
    caption = "The loss is averaged over windows of a twelfth of the run. The last validation is on all held-out clips."
    return Plot("learning_curves", "Learning curves", caption, panels)


def _panel_curves(comparison: Comparison, name: str, label: str) -> Callable[[Axes], None]:
    colours = series_colours(comparison)
    rows = {row.run.name: row for row in reversed(comparison.rows) if row.run.curves}
    marks: dict[str, int] = {}

    def draw(axes: Axes) -> None:
        marks.clear()
        for row in reversed(rows.values()):
            steps, values = row.run.curves.get(name, ([], []))
            if not steps:
                continue
            style = marks[row.series] = marks.get(row.series, -1) + 1
            x, y = averaged(steps, values) if name.startswith("train/") else (steps, values)
            text = row.label if len(rows) <= MANY else row.series
            fresh = text not in axes.get_legend_handles_labels()[1]
            line = LINES[style % len(LINES)]
            mark = "o" if len(x) == 1 else None  # a line needs two points
            axes.plot(
                x,
                y,
                line,
                marker=mark,
                color=colours[row.series],
                label=text if fresh else None,
                linewidth=1.4,
                alpha=0.9,
            )
        plain(axes, "optimizer steps", "", label)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))

    return draw


def averaged(steps: list[int], values: list[float], windows: int = SMOOTH) -> tuple[list[float], list[float]]:
    """Means over consecutive windows of equally many points: a smoothed curve without lag."""
    parts = min(windows, len(steps))
    chunks = zip(np.array_split(np.array(steps, float), parts), np.array_split(np.array(values), parts), strict=True)
    means = [(float(x.mean()), float(y.mean())) for x, y in chunks]
    return [x for x, _ in means], [y for _, y in means]
