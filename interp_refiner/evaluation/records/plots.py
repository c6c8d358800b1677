"""Plots of an evaluation."""

from collections.abc import Sequence
from itertools import cycle, pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from interp_refiner.core import Interval
from interp_refiner.evaluation.records.records import Column, Evaluation

# colours of Okabe and Ito, and two of Tol: safe for colour blindness
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#882255")
INK, FAINT = "#333333", "#999999"
REAL = (0.85, 1.15)  # ratios to the truth that count as real
FAR = 2.0  # larger ratios are shown only as numbers
AT_RIGHT: dict[str, Any] = {"ha": "right", "va": "center"}


def by_gap(evaluation: Evaluation) -> Figure | None:
    """Every measure by gap, relative to the baseline, one panel each, with intervals.

    Panels of ratios leave out controls that are more than twice as bad as the baseline at every gap, so that the others
    stay legible.
    """
    base, gaps = evaluation.baseline, [gap for gap in evaluation.gaps if gap > 1]
    columns = [c for c in evaluation.columns if c.against == base and c.measure.neutral is not None]
    found = {
        column: {
            m: [(gap, f) for gap in gaps if (f := evaluation.figure(column, m, gap=gap))] for m in styles(evaluation)
        }
        for column in columns
    }
    found = {column: methods for column, methods in found.items() if any(methods.values())}
    if not found:
        return None
    canvas, panels = canvas_of(len(found), width=4.4)
    for axes, (column, methods) in zip(panels, found.items(), strict=True):
        _against_gap(axes, column, methods, evaluation)
    panels[0].set_title(titled(evaluation))
    legend_below(canvas, panels)
    return canvas


def _against_gap(
    axes: Axes, column: Column, methods: dict[str, list[tuple[int, Interval]]], evaluation: Evaluation
) -> None:
    ratio, top, seen = column.measure.neutral == 1.0, FAR, [0.0]
    for method, points in methods.items():
        control = evaluation.methods[method] == "control"
        if not points or (ratio and control and all(f.value > FAR for _, f in points)):
            continue
        style = styles(evaluation)[method]
        gap, value, low, high = zip(*((g, f.value, f.low, f.high) for g, f in points), strict=True)
        axes.plot(gap, value, label=method, **style)
        axes.fill_between(gap, low, high, color=style["color"], alpha=0.15, linewidth=0)
        top = top if control else max(top, *high)
        seen += [] if control else [*low, *high]
    reference(axes, "y", float(column.measure.neutral or 0))
    axes.plot([], [], ":", color=FAINT, linewidth=1, label=evaluation.baseline)
    if ratio:
        axes.set_ylim(-0.03 * top, 1.05 * top)
    elif max(seen) > min(seen):  # controls such as the truth may be far away
        room = 0.2 * (max(seen) - min(seen))
        axes.set_ylim(min(seen) - room, max(seen) + room)
    plain(axes, "gap between keyframes (frames)", column.heading)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def perception_distortion(evaluation: Evaluation) -> Figure | None:
    """The main measures of realism against those of error, all relative to the baseline; one panel per level.

    Down and left is better.
    """
    base = evaluation.baseline
    leads = [c for c in evaluation.columns if c.measure.lead and c.against == base]
    pairs = [
        (x, y, s)
        for x, y in pairwise(leads)
        for s in evaluation.levels
        if _has(evaluation, x, s) and _has(evaluation, y, s)
    ]
    if not pairs:
        return None
    canvas, panels = canvas_of(len(pairs), width=3.6)
    for axes, (first, second, level) in zip(panels, pairs, strict=True):
        for method, style in styles(evaluation).items():
            x, y = (evaluation.figure(column, method, level=level) for column in (first, second))
            if x is not None and y is not None:
                marks = style | {"linestyle": "none", "elinewidth": 1}
                axes.errorbar(x.value, y.value, xerr=reach(x), yerr=reach(y), label=method, **marks)
        axes.plot(1, 1, marker="s", color=INK, fillstyle="none", linestyle="none", label=base, markersize=9)
        axes.margins(0.1)
        for floor in {r.method for r in evaluation.records} - {*evaluation.methods}:
            found = evaluation.figure(second, floor, level=level)
            if found is not None and found.value <= axes.get_ylim()[1]:  # meaningless for few clips
                axes.axhline(found.value, color=FAINT, linewidth=1, linestyle=":", label=floor)
        plain(axes, first.heading, second.heading if axes is panels[0] else "", titled(evaluation, level))
    legend_below(canvas, panels)
    return canvas


def _has(evaluation: Evaluation, column: Column, level: int) -> bool:
    return any(evaluation.figure(column, method, level=level) for method in evaluation.methods)


def ratios_to_truth(evaluation: Evaluation) -> Figure | None:
    """The measures whose best value is 1, by method, one panel per level; .85 to 1.15 counts as real.

    A ratio above 2 is written as a number at the right edge.
    """
    columns = [c for c in evaluation.columns if c.measure.better == "one" and c.measure.neutral == 1.0]
    levels = [s for s in evaluation.levels if any(_has(evaluation, c, s) for c in columns)]
    methods = [m for m in evaluation.methods if any(evaluation.figure(c, m, level=s) for c in columns for s in levels)]
    if not methods:
        return None
    canvas, panels = canvas_of(len(levels), width=3.6, height=1.2 + 0.5 * len(methods))
    for axes, level in zip(panels, levels, strict=True):
        for place, (column, colour) in enumerate(zip(columns, cycle(COLOURS), strict=False)):
            offset = 0.18 * (place - (len(columns) - 1) / 2)
            for row, method in enumerate(methods):
                found = evaluation.figure(column, method, level=level)
                if found is None or not found.value <= FAR:
                    text = f"{found.value:.1f} \N{RIGHTWARDS ARROW}" if found is not None and found.value > FAR else ""
                    axes.annotate(text, (FAR, row + offset), color=colour, fontsize=7, **AT_RIGHT)
                else:
                    axes.errorbar(found.value, row + offset, xerr=reach(found), fmt="o", markersize=4, color=colour)
            axes.plot([], [], "o", color=colour, label=column.heading)
        axes.axvspan(*REAL, color=FAINT, alpha=0.2, linewidth=0)
        reference(axes, "x", 1.0)
        axes.set_yticks(range(len(methods)), methods if axes is panels[0] else [""] * len(methods))
        axes.set_ylim(len(methods) - 0.5, -0.5)
        axes.set_xlim(-0.03 * FAR, 1.05 * FAR)
        plain(axes, "relative to the truth", "", titled(evaluation, level))
    legend_below(canvas, panels)
    return canvas


def titled(evaluation: Evaluation, level: int | None = None) -> str:
    """A title with the level and the number of clips."""
    clips = max((r.clips or 0 for r in evaluation.records if level in (None, r.level)), default=0)
    return ", ".join([f"level {level}"] * (level is not None) + [f"{clips} clips"] * (clips > 0))


PLOTS = {"by_gap": by_gap, "perception_distortion": perception_distortion, "ratios_to_truth": ratios_to_truth}


def plain(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Sets labels, and formats the axes' numbers without an offset or a common factor."""
    axes.set(xlabel=x, ylabel=y, title=title)
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(formatter := axis.get_major_formatter(), ScalarFormatter):
            formatter.set_useOffset(False)
            formatter.set_scientific(False)


def canvas_of(panels: int, width: float, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    """A figure with ``panels`` panels side by side, each ``width`` x ``height`` inches."""
    canvas = Figure(figsize=(width * max(panels, 1), height), layout="constrained")
    axes = list(canvas.subplots(1, max(panels, 1), squeeze=False)[0])
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return canvas, axes


def legend_below(canvas: Figure, panels: Sequence[Axes]) -> None:
    """One legend below for all panels, which show the same methods."""
    shown = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    longest = max(map(len, shown), default=1)
    columns = max(1, min(len(shown), 5, int(canvas.get_figwidth() / (0.7 + 0.085 * longest))))  # inches per letter
    canvas.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=columns, frameon=False)


def reach(found: Interval) -> list[list[float]]:
    """The lengths of an error bar to both sides."""
    return [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]


def reference(axes: Axes, axis: str, value: float, label: str = "") -> None:
    """A faint line at a value of an axis, ``"x"`` or ``"y"``."""
    draw = axes.axhline if axis == "y" else axes.axvline
    draw(value, color=FAINT, linewidth=1, linestyle=":")
    if label:
        axes.annotate(label, (1.01, value), xycoords=("axes fraction", "data"), ha="left", va="center", color=FAINT)


def styles(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Line and marker of every method except the baseline: estimates solid, interpolations dashed, controls grey."""
    styles: dict[str, dict[str, Any]] = {}
    lines = {"estimate": "-", "baseline": "--", "control": ":"}
    colours, markers = cycle(COLOURS), cycle("^vsDPX")
    for method, role in evaluation.methods.items():
        if method != evaluation.baseline:
            colour, marker = (FAINT, next(markers)) if role == "control" else (next(colours), "o")
            styles[method] = {"color": colour, "linestyle": lines[role], "marker": marker}
    return styles
