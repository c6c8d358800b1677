"""An evaluation as Markdown tables."""

from collections.abc import Iterable, Sequence
from math import isnan
from typing import Any

from interp_refiner.evaluation.measures import Interval
from interp_refiner.evaluation.results import Evaluation, figure

NOTHING = "–"  # a figure that was not measured


def markdown_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[bool] | None = None
) -> str:
    """A table in which columns of numbers are right-aligned; unless it is told, all but the first are."""
    right = numbers or [False, *[True] * (len(headings) - 1)]
    lines = [headings, ["---:" if aligned else "---" for aligned in right], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def shown(found: Interval | float | None, digits: int = 3, percent: bool = False, interval: bool = True) -> str:
    """``0.783 (0.751..0.812)``, ``92% (88..95%)``, or a dash for what was not measured or is no number."""
    if found is None or isnan(found.value if isinstance(found, Interval) else found):
        return NOTHING

    def number(value: float) -> str:
        return NOTHING if isnan(value) else f"{100 * value:.0f}" if percent else f"{value:.{digits}f}"

    unit = "%" if percent else ""
    if isinstance(found, Interval) and interval:
        return f"{number(found.value)}{unit} ({number(found.low)}..{number(found.high)}{unit})"
    return f"{number(found.value if isinstance(found, Interval) else found)}{unit}"


def error_section(evaluation: Evaluation, level: int) -> str:
    """Errors and scores of every method at one level, beside linear interpolation and the run's own.

    Scores of a part of the clips have their intervals: of few clips a difference may have the wrong sign.
    """
    at, base, partial = {"level": level}, evaluation.baseline, bool(evaluation.scored)
    headings = ["", "MSE", *(f"{what} {n}" for n in evaluation.baselines for what in ("MSE /", "better than"))]
    headings += ["PSNR dB", f"PSNR - {base}", "SSIM", f"SSIM - {base}"]
    rows = []
    for method in evaluation.methods:
        cells = [shown(figure(evaluation.errors, f"mse/{method}", **at), digits=4, interval=False)]
        for other in evaluation.baselines:
            cells.append(shown(figure(evaluation.errors, f"mse_ratio/{method}/{other}", **at)))
            cells.append(shown(figure(evaluation.errors, f"mse_better/{method}/{other}", **at), percent=True))
        for score, digits in (("psnr", 2), ("ssim", 4)):
            cells.append(shown(figure(evaluation.scores, f"{score}/{method}", **at), digits=digits, interval=partial))
            cells.append(shown(figure(evaluation.scores, f"{score}_gain/{method}/{base}", **at), digits=digits))
        rows.append([method, *cells])
    return markdown_table(headings, rows)


def realism_section(evaluation: Evaluation, level: int) -> str:
    """How real every method's clips are at one level; 1 is the truth, except for the distances."""
    at, base = {"level": level}, evaluation.baseline
    headings = [
        "",
        "Frechet",
        f"Frechet / {base}",
        "boundary motion",
        "motion inside gaps",
        "flicker",
        "high frequency",
    ]
    ratios = ("boundary_motion", "inside_motion", "flicker", "high_frequency")
    rows = [
        [
            method,
            shown(figure(evaluation.frechet, f"frechet/{method}", **at), interval=False),
            shown(figure(evaluation.frechet, f"frechet_ratio/{method}/{base}", **at)),
            *(shown(figure(evaluation.realism, f"{q}/{method}", **at), digits=2) for q in ratios),
        ]
        for method in evaluation.methods
    ]
    floor = figure(evaluation.frechet, "frechet_floor", **at)
    if floor is not None:
        rows.append(["halves of the truth", shown(floor, interval=False), *[NOTHING] * 5])
    return markdown_table(headings, rows)


def gap_section(evaluation: Evaluation) -> str:
    """MSE relative to the baseline by the gap between keyframes, over all levels."""
    base = evaluation.baseline
    others = [method for method in evaluation.methods if method != base]
    rows = []
    for gap in evaluation.gaps:
        ratios = [figure(evaluation.errors, f"mse_ratio/{method}/{base}", gap=gap) for method in others]
        error = shown(figure(evaluation.errors, f"mse/{base}", gap=gap), digits=4, interval=False)
        rows.append([str(gap) if gap > 0 else "outside the keyframes", error, *map(shown, ratios)])
    return markdown_table(["gap", f"MSE of {base}", *others], rows)


def stochastic_section(evaluation: Evaluation) -> str:
    """What several samples per clip are worth."""
    names = ["sample_mse", "mean_mse", "energy_score", "spread", "skill", "spread_skill"]
    rows = [
        [f"{method}, level {level}", *(shown(figure(records, name, level=level)) for name in names)]
        for method, records in evaluation.stochastic.items()
        for level in (record["level"] for record in records)
    ]
    headings = ["one sample's MSE", "MSE of the mean", "energy score", "spread", "skill", "spread / skill"]
    return markdown_table(["", *headings], rows)


def contract_section(evaluation: Evaluation) -> str:
    """What became of the keyframes."""
    rows = []
    for method, records in evaluation.contract.items():
        for record in records:
            values = record["values"]
            exact = shown(values.get("exact_share"), percent=True)
            shifts = [shown(values.get(name), digits=4) for name in ("colour_shift", "colour_shift_max", "seam_colour")]
            flicker = shown(values.get("seam_flicker"), digits=2)
            rows.append([f"{method}, level {record['level']}", exact, *shifts, flicker])
    return markdown_table(["", "exact", "colour shift", "largest", "colour at the seam", "seam flicker"], rows)


def maze_section(evaluation: Evaluation, level: int) -> str:
    """Paths through mazes at one level."""
    at, base = {"level": level}, evaluation.baseline
    headings = ["", f"MSE / {base}", "better", "unchanged", "worse"]
    headings += ["edges in walls", "paths in walls", "length / truth", "endpoint error"]
    rows = []
    for method in dict.fromkeys(["truth", *evaluation.methods]):
        shares = [figure(evaluation.mazes, f"{q}/{method}/{base}", **at) for q in ("better", "unchanged", "worse")]
        rows.append(
            [
                method,
                shown(figure(evaluation.mazes, f"mse_ratio/{method}/{base}", **at)),
                *(shown(share, percent=True, interval=False) for share in shares),
                shown(figure(evaluation.mazes, f"edge_collisions/{method}", **at)),
                shown(figure(evaluation.mazes, f"collision_rate/{method}", **at), percent=True),
                shown(figure(evaluation.mazes, f"length_ratio/{method}", **at)),
                shown(figure(evaluation.mazes, f"endpoint_error/{method}", **at), digits=4, interval=False),
            ]
        )
    return markdown_table(headings, rows)


def chosen_section(evaluation: Evaluation, level: int) -> str:
    """Metrics that were asked for by name, at one level."""
    rows = [
        [
            method,
            *(shown(figure(records, f"{name}/{method}", level=level)) for name, records in evaluation.chosen.items()),
        ]
        for method in evaluation.methods
    ]
    return markdown_table(["", *evaluation.chosen], rows)


def markdown_report(evaluation: Evaluation, plots: Sequence[str] = ()) -> str:
    """The whole evaluation: what was measured, one section per level, then gaps, samples and keyframes.

    Args:
        evaluation: the figures; sections without any are left out.
        plots: file names of pictures to show at the end.
    """
    about = markdown_table(["", ""], [[name, _inline(value)] for name, value in evaluation.about.items()])
    sections = [("Evaluation", about)]
    of = f", of {evaluation.scored}" if evaluation.scored else ""
    for level in evaluation.levels:
        if evaluation.errors:
            scored = f", PSNR and SSIM{of}" if of and evaluation.scores else ""
            sections.append((f"Level {level}: missing frames{scored}", error_section(evaluation, level)))
        if evaluation.realism or evaluation.frechet:
            sections.append((f"Level {level}: realism (1 is the truth){of}", realism_section(evaluation, level)))
        if evaluation.chosen:
            sections.append((f"Level {level}: metrics asked for{of}", chosen_section(evaluation, level)))
        if evaluation.mazes:
            sections.append((f"Level {level}: paths", maze_section(evaluation, level)))
    if evaluation.errors:
        sections.append((f"MSE / {evaluation.baseline} by gap", gap_section(evaluation)))
    if evaluation.stochastic:
        sections.append(("Several samples per clip", stochastic_section(evaluation)))
    if evaluation.contract:
        sections.append(("Keyframes", contract_section(evaluation)))
    text = "\n".join(f"{'#' if i == 0 else '##'} {title}\n\n{body}" for i, (title, body) in enumerate(sections))
    return text + "".join(f"\n![{name}]({name})\n" for name in plots)


def _inline(value: Any) -> str:
    return f"`{value}`".replace("|", "\\|")
