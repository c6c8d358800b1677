"""An evaluation as pictures."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from interp_refiner.evaluation.measures import Interval
from interp_refiner.evaluation.results import Evaluation, figure

# Okabe and Ito, then two of Tol: safe for colour blindness
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#882255")
INK, FAINT = "#333333", "#999999"
REAL = (0.85, 1.15)  # temporal-difference ratios that count as real
FAR = 2.0  # ratios beyond are not worth room
AT_RIGHT: dict[str, Any] = {"ha": "right", "va": "center"}


def error_by_gap(evaluation: Evaluation) -> Figure:
    """Missing-frame MSE relative to the baseline against the gap between keyframes, with intervals.

    Controls that are worse than twice the baseline at every gap are left out, for the others to be legible.
    """
    canvas, (axes,) = canvas_of(1, width=6.8)
    base, gaps = evaluation.baseline, [gap for gap in evaluation.gaps if gap > 1]
    top = FAR
    for method, style in _styles(evaluation).items():
        found = {gap: figure(evaluation.errors, f"mse_ratio/{method}/{base}", gap=gap) for gap in gaps}
        points = [(gap, f.value, f.low, f.high) for gap, f in found.items() if f is not None]
        control = evaluation.methods[method] == "control"
        if not points or (control and all(value > FAR for _, value, *_ in points)):
            continue
        gap, value, low, high = zip(*points, strict=True)
        axes.plot(gap, value, label=method, **style)
        axes.fill_between(gap, low, high, color=style["color"], alpha=0.15, linewidth=0)
        top = top if control else max(top, *high)
    reference(axes, "y", 1.0, base)
    axes.set(xlabel="gap between keyframes (frames)", ylabel=f"missing-frame MSE / {base}")
    axes.set_ylim(-0.03 * top, 1.05 * top)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    canvas.legend(loc="outside right upper", frameon=False)
    return canvas


def perception_distortion(evaluation: Evaluation) -> Figure:
    """Frechet distance against MSE, both relative to the baseline, one panel per level; down and left is better."""
    base, levels = evaluation.baseline, [record["level"] for record in evaluation.frechet]
    canvas, panels = canvas_of(len(levels), width=3.6)
    for axes, level in zip(panels, levels, strict=True):
        for method, style in _styles(evaluation).items():
            x = figure(evaluation.errors, f"mse_ratio/{method}/{base}", level=level)
            y = figure(evaluation.frechet, f"frechet_ratio/{method}/{base}", level=level)
            if x is not None and y is not None:
                marks = style | {"linestyle": "none", "elinewidth": 1}
                axes.errorbar(x.value, y.value, xerr=reach(x), yerr=reach(y), label=method, **marks)
        axes.plot(1, 1, marker="s", color=INK, fillstyle="none", linestyle="none", label=base, markersize=9)
        floor = figure(evaluation.frechet, "frechet_floor", level=level)
        whole = figure(evaluation.frechet, f"frechet/{base}", level=level)
        if floor is not None and whole is not None and whole.value > 0:
            axes.axhline(
                floor.value / whole.value, color=FAINT, linewidth=1, linestyle=":", label="halves of the truth"
            )
        axes.set(xlabel=f"MSE / {base}", title=f"level {level}")
        axes.margins(0.1)
    panels[0].set_ylabel(f"Frechet distance / {base}")
    legend_below(canvas, panels)
    return canvas


def temporal_ratios(evaluation: Evaluation) -> Figure:
    """Temporal-difference energy relative to the truth's, next to keyframes and inside gaps, one panel per level.

    A ratio beyond 2 stands as a number at the right edge.
    """
    levels = [record["level"] for record in evaluation.realism]
    measured = {name for record in evaluation.realism for name in record["values"]}
    methods = [method for method in evaluation.methods if f"boundary_motion/{method}" in measured]
    canvas, panels = canvas_of(len(levels), width=3.6)
    kinds = (("boundary_motion", "next to keyframes", -0.15), ("inside_motion", "inside gaps", 0.15))
    for axes, level in zip(panels, levels, strict=True):
        for (quantity, label, offset), colour in zip(kinds, COLOURS, strict=False):
            for row, method in enumerate(methods):
                found = figure(evaluation.realism, f"{quantity}/{method}", level=level)
                if found is not None:
                    axes.errorbar(found.value, row + offset, xerr=reach(found), fmt="o", color=colour)
                if found is not None and found.value > FAR:
                    axes.annotate(
                        f"{found.value:.1f} \N{RIGHTWARDS ARROW}", (FAR, row + offset), color=colour, **AT_RIGHT
                    )
            axes.plot([], [], "o", color=colour, label=label)
        axes.axvspan(*REAL, color=FAINT, alpha=0.2, linewidth=0)
        reference(axes, "x", 1.0)
        axes.set_yticks(range(len(methods)), methods if axes is panels[0] else [""] * len(methods))
        axes.set_ylim(len(methods) - 0.5, -0.5)
        axes.set_xlim(-0.03 * FAR, 1.05 * FAR)
        axes.set(xlabel="motion energy / truth", title=f"level {level}")
    legend_below(canvas, panels)
    return canvas


def canvas_of(panels: int, width: float, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels beside each other, each ``width`` x ``height`` inches."""
    canvas = Figure(figsize=(width * max(panels, 1), height), layout="constrained")
    axes = list(canvas.subplots(1, max(panels, 1), squeeze=False)[0])
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return canvas, axes


def legend_below(canvas: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels, which are of the same methods; as much as any of them shows."""
    shown = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    longest = max(map(len, shown), default=1)
    columns = max(1, min(len(shown), 5, int(canvas.get_figwidth() / (0.7 + 0.085 * longest))))  # inches a letter takes
    canvas.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=columns, frameon=False)


def reach(found: Interval) -> list[list[float]]:
    """Lengths of an error bar to the left and to the right (or down and up)."""
    return [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]


def reference(axes: Axes, axis: str, value: float, label: str = "") -> None:
    """A faint line at a value of an axis, ``"x"`` or ``"y"``."""
    draw = axes.axhline if axis == "y" else axes.axvline
    draw(value, color=FAINT, linewidth=1, linestyle=":")
    if label:
        axes.annotate(label, (1.01, value), xycoords=("axes fraction", "data"), ha="left", va="center", color=FAINT)


def _styles(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Line and marker of every method but the baseline: estimates solid, interpolations dashed, controls grey."""
    styles: dict[str, dict[str, Any]] = {}
    lines = {"estimate": "-", "baseline": "--", "control": ":"}
    colours, markers = cycle(COLOURS), cycle("^vsDPX")
    for method, role in evaluation.methods.items():
        if method != evaluation.baseline:
            colour, marker = (FAINT, next(markers)) if role == "control" else (next(colours), "o")
            styles[method] = {"color": colour, "linestyle": lines[role], "marker": marker}
    return styles
