"""Tables and plots show the figures that they get."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from interp_refiner.core import Clip, Interval, Measure
from interp_refiner.evaluation import Column, Evaluation, markdown_report
from interp_refiner.evaluation.measures import (
    FLOOR,
    Batch,
    Bootstrap,
    Design,
    Frechet,
    MazePaths,
    Metric,
    RandomConvFeatures,
    Record,
    SeveralSamples,
    standard,
)
from interp_refiner.evaluation.records.markdown import figure_table, markdown_table
from interp_refiner.evaluation.records.plots import by_gap, perception_distortion, ratios_to_truth

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"
B, T = 12, 9
ROLES = {"refined": "estimate", "linear": "baseline", "truth": "control"}
FEW = Bootstrap(num_resamples=50)


def clips_at(step: int) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Estimates, truth and keyframes of random clips, every ``step``-th frame known."""
    g = torch.Generator().manual_seed(step)
    truth = torch.rand(B, 2, T, 12, 11, generator=g)
    known = (torch.arange(T) % step == 0).expand(B, T)
    noise = torch.rand(truth.shape, generator=g) * ~known.view(B, 1, T, 1, 1)
    return {"refined": truth + 0.2 * noise, "linear": truth + 0.4 * noise, "truth": truth}, truth, known


def evaluated(metrics: list[Metric], batches: list[Batch], about: dict, roles: dict) -> Evaluation:
    """What metrics say of batches."""
    tables = [metric.table(Design(roles, ["linear"], FEW)) for metric in metrics]
    for table in tables:
        for batch in batches:
            table.update(batch)
    records = [record for table in tables for record in table.compute()]
    measures = [m for metric in metrics for one in metric.measures for m in one.family]
    return Evaluation(about, roles, measures=measures, records=records)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Two levels, gaps of 4 and 2: at level 1 no step lies inside a gap."""
    batches = []
    for s, step in ((1, 2), (2, 4)):
        estimates, truth, known = clips_at(step)
        samples = torch.stack([estimates["refined"], estimates["linear"]])
        level = torch.full((B,), s)
        batches.append(Batch(estimates, truth, known, level, torch.arange(B), values=truth, samples=samples))
    metrics = [m for m in standard(("latents", "pixels", "videos")) if not isinstance(m, Frechet)]
    metrics += [Frechet(RandomConvFeatures(2, width=4)), SeveralSamples(2, "refined")]
    return evaluated(metrics, batches, {"checkpoint": "runs/a|b", "clips": B}, ROLES)


@pytest.fixture(scope="module")
def mazes() -> Evaluation:
    g = torch.Generator().manual_seed(0)
    clean = torch.rand(B, 2, T, generator=g)
    known = (torch.arange(T) % 4 == 0).expand(B, T)
    estimates = {"refined": clean + 0.01 * torch.randn(clean.shape, generator=g), "linear": clean + 0.05}
    context = torch.zeros(B, 4, 6, 6)
    context[:, 0] = (torch.rand(B, 6, 6, generator=g) < 0.2).float()
    clip = Clip(clean, [str(i) for i in range(B)], context=context)
    level, index = torch.ones(B, dtype=torch.long), torch.arange(B)
    batch = Batch(estimates | {"truth": clean}, clean, known, level, index, clip=clip)
    return evaluated([MazePaths()], [batch], {}, ROLES)


def rows_of(report: str, heading: str) -> dict[str, list[str]]:
    """The table under a heading: cells by the first cell of their row."""
    section = report.split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


def test_survives_a_file(evaluation, tmp_path):
    evaluation.save(tmp_path / "evaluation.json")
    again = Evaluation.load(tmp_path / "evaluation.json")
    assert (again.methods, again.measures) == (ROLES, evaluation.measures)
    assert again.levels == evaluation.levels == [1, 2]
    assert again.gaps == evaluation.gaps == [2, 4]
    for one, other in zip(again.records, evaluation.records, strict=True):
        assert one[:2] + one[5:] == other[:2] + other[5:]
        assert one[2:5] == pytest.approx(other[2:5], rel=1e-6, nan_ok=True)
    # NaN is no JSON: it is written as null and read as NaN
    assert "NaN" not in (tmp_path / "evaluation.json").read_text()
    assert math.isnan(again.record("inside_motion", "linear", level=1).value)
    assert markdown_report(again) == markdown_report(evaluation)


def test_a_file_of_an_older_version_says_so(tmp_path):
    (tmp_path / "evaluation.json").write_text('{"about": {}, "methods": {}, "errors": []}')
    with pytest.raises(
        ValueError, match=r"evaluation\.json: expected .* an older version wrote this file, so evaluate again"
    ):
        Evaluation.load(tmp_path / "evaluation.json")


def test_infinity_becomes_null_too(tmp_path):
    Evaluation({"worst": math.inf, "shape": (2, math.nan)}, {}).save(tmp_path / "e.json")
    assert json.loads((tmp_path / "e.json").read_text())["about"] == {"worst": None, "shape": [2, None]}


def test_finds_figures_by_exact_keys(evaluation):
    whole = evaluation.record("mse_ratio", "refined", "linear", level=2)
    assert whole.value == pytest.approx(0.25, rel=1e-5)
    assert evaluation.record("mse_ratio", "refined", "linear", gap=4).value == pytest.approx(0.25, rel=1e-5)
    cell = evaluation.record("mse", "linear", level=2, gap=4, offset=3)
    assert cell.low < cell.value < cell.high
    assert evaluation.record("mse", "linear", level=3) is None
    assert evaluation.record("mse", "nobody", level=2) is None


def test_report_shows_the_figures(evaluation):
    report = markdown_report(evaluation, plots=["gap.png"])
    errors = rows_of(report, "Level 2: missing frames")
    place = {heading: i for i, heading in enumerate(errors[""])}
    assert errors["refined"][place["MSE / linear"]] == "0.250 (0.250..0.250)"
    assert errors["refined"][place["better MSE than linear"]] == "100% (100..100%)"
    gain = evaluation.record("psnr_gain", "refined", "linear", level=2)
    said = f"{gain.value:.2f} ({gain.low:.2f}..{gain.high:.2f})"
    assert errors["refined"][place["PSNR dB - linear"]] == said
    assert (errors["truth"][place["PSNR dB"]], errors["truth"][place["SSIM"]]) == ("100.00", "1.0000")
    mse = evaluation.record("mse", "linear", level=2).value
    assert errors["linear"][:2] == [f"{mse:.4f}", "–"]
    realism = rows_of(report, "Level 1: realism (1 is the truth)")
    place = {heading: i for i, heading in enumerate(realism[""])}
    assert realism["truth"][place["Frechet"]] == "0.000"
    assert realism["truth"][place["motion at keyframes"]] == "1.00 (1.00..1.00)"
    assert realism["truth"][place["motion in gaps"]] == "–"
    assert float(realism[FLOOR][place["Frechet"]]) > 0
    assert rows_of(report, "MSE / linear by gap")["4"][0] == "0.250 (0.250..0.250)"
    assert rows_of(report, "Level 1: keyframes")["refined"][0] == "100%"
    assert "shuffled keyframes" not in rows_of(report, "Level 1: keyframes")
    assert list(rows_of(report, "Level 2: several samples of a clip")) == ["", "---", "refined"]
    assert f"\n{B} clips.\n" in report
    assert "- PSNR is a mean of decibels" in report
    assert "`runs/a\\|b`" in report
    assert report.endswith("\n![gap.png](gap.png)\n")


def test_figures_of_a_part_of_the_clips_say_so_and_have_their_intervals(evaluation):
    """Of few clips a difference may have another sign than of all."""
    records = [r._replace(clips=4) if r.measure.startswith("psnr") else r for r in evaluation.records]
    part = replace(evaluation, about={"clips": B, "clips decoded": 4}, records=records)
    report, whole = markdown_report(part), markdown_report(evaluation)
    psnr = evaluation.record("psnr", "refined", level=2)
    with_interval = f"{psnr.value:.2f} ({psnr.low:.2f}..{psnr.high:.2f})"
    missing = "Level 2: missing frames"
    place = rows_of(whole, missing)[""].index("PSNR dB")
    assert rows_of(report, missing)["refined"][place] == with_interval
    assert rows_of(whole, missing)["refined"][place] == f"{psnr.value:.2f}"
    assert "\n4 clips: PSNR dB, PSNR dB - linear.\n" in report
    assert (part.scored, evaluation.scored) == ("4 of 12 clips", "")


def test_report_compares_with_the_run_s_own_interpolation_too(evaluation):
    own = [
        Record("mse_ratio", "refined", 0.75, 0.7, 0.8, "spline", level=2),
        Record("mse_better", "refined", 0.6, 0.5, 0.7, "spline", level=2),
    ]
    methods = {"refined": "estimate", "spline": "baseline", "linear": "baseline", "truth": "control"}
    two = Evaluation({}, methods, measures=evaluation.measures, records=[*evaluation.records, *own])
    assert two.baselines == ["linear", "spline"]
    errors = rows_of(markdown_report(two), "Level 2: missing frames")
    headings = ["MSE", "MSE / linear", "MSE / spline", "better MSE than linear", "better MSE than spline"]
    assert errors[""][:5] == headings
    assert (errors["refined"][2], errors["refined"][4]) == ("0.750 (0.700..0.800)", "60% (50..70%)")


def test_what_was_not_measured_is_left_out(mazes):
    report = markdown_report(mazes)
    assert [line for line in report.splitlines() if line.startswith("#")] == ["# Evaluation", "## Level 1: paths"]
    paths = rows_of(report, "Level 1: paths")
    place = {heading: i for i, heading in enumerate(paths[""])}
    assert paths["refined"][place["better path MSE than linear"]].startswith("100%")
    rate = mazes.record("paths_in_walls", "truth", level=1).value
    assert paths["truth"][place["paths in walls"]].startswith(f"{100 * rate:.0f}%")


def test_table_and_numbers():
    assert markdown_table(["", "a"], [["x", "1"]]) == "|  | a |\n| --- | ---: |\n| x | 1 |\n"
    share = Measure("share", "share", "higher", percent=True)
    assert Measure("a", "a").text(None) == "–"
    assert Measure("a", "a", digits=2).text(0.12345) == "0.12"
    assert share.text(Interval(0.5, 0.25, 0.75)) == "50% (25..75%)"
    assert Measure("a", "a").text(Interval(0.5, 0.25, 0.75), interval=False) == "0.500"
    assert Measure("a", "a").text(Interval(math.nan)) == "–"


@pytest.mark.parametrize(("better", "best"), [("lower", 0.2), ("higher", 5.0), ("one", 0.9)])
def test_a_measure_says_which_way_is_good(better, best):
    assert min((0.2, 0.9, 5.0), key=Measure("a", "a", better).cost) == best


def test_a_family_compares_two_methods():
    error, score = Measure("e", "E", compared="ratio"), Measure("q", "Q", "higher", compared="difference")
    assert [m.name for m in error.family] == ["e", "e_ratio", "e_better", "e_worse"]
    assert [m.better for m in error.family] == ["lower", "lower", "higher", "lower"]
    assert [Column(m, "b").heading for m in score.family] == ["Q", "Q - b"]
    assert [m.neutral for m in (*error.family, *score.family)] == [None, 1.0, None, None, None, 0.0]


def test_by_gap_draws_ratios_and_gains(evaluation):
    panels = {axes.get_ylabel(): axes for axes in by_gap(evaluation).axes}
    assert list(panels) == ["MSE / linear", "PSNR dB - linear", "SSIM - linear"]
    lines = {line.get_label(): line for line in panels["MSE / linear"].lines}
    assert list(lines["refined"].get_xdata()) == [2, 4]
    assert list(lines["refined"].get_ydata()) == pytest.approx([0.25, 0.25], rel=1e-5)
    gains = {line.get_label(): line for line in panels["PSNR dB - linear"].lines}
    assert gains["refined"].get_ydata()[1] == pytest.approx(
        evaluation.record("psnr_gain", "refined", "linear", gap=4).value
    )


def test_perception_distortion_places_every_method(evaluation):
    panels = perception_distortion(evaluation).axes
    assert [axes.get_title() for axes in panels] == ["level 1, 12 clips", "level 2, 12 clips"]
    for axes, level in zip(panels, (1, 2), strict=True):
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        assert handles.keys() == {"refined", "truth", "linear", FLOOR}
        places = {bars.get_label(): bars.lines[0].get_xydata()[0].tolist() for bars in axes.containers}
        ratio = evaluation.record("frechet_ratio", "refined", "linear", level=level).value
        assert places["refined"] == pytest.approx((0.25, ratio), rel=1e-5)
        assert places["truth"] == pytest.approx((0, 0), abs=1e-6)


def test_far_controls_are_left_out_of_the_gaps_but_estimates_never_are(evaluation):
    def drawn_as(role: str) -> set[str]:
        far = [r._replace(value=100 * r.value, low=100 * r.low, high=100 * r.high) for r in evaluation.records]
        methods = {"refined": role, "linear": "baseline", "truth": "estimate"}
        axes = by_gap(Evaluation({}, methods, measures=evaluation.measures, records=far)).axes[0]
        return {line.get_label() for line in axes.lines}

    assert "refined" not in drawn_as("control")
    assert "refined" in drawn_as("estimate")


def test_ratios_to_the_truth_draw_every_measure_of_which_one_is_best(evaluation):
    panels = ratios_to_truth(evaluation).axes
    assert [[tick.get_text() for tick in axes.get_yticklabels()] for axes in panels] == [list(ROLES), [""] * 3]
    for axes, level in zip(panels, (1, 2), strict=True):
        drawn = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
        assert all(value <= 2 for value in drawn)
        names = ("boundary_motion", "inside_motion", "flicker", "high_frequency")
        expected = [evaluation.record(name, m, level=level).value for name in names for m in ROLES]
        assert drawn == pytest.approx([value for value in expected if value <= 2])
        beyond = {text.get_text().partition(" ")[0] for text in axes.texts} - {""}
        assert beyond == {f"{value:.1f}" for value in expected if value > 2}


def test_axes_have_no_common_offset(evaluation):
    near = [r._replace(value=1 + 1e-7 * i, low=1.0, high=1.00001) for i, r in enumerate(evaluation.records)]
    for plot in (by_gap, perception_distortion, ratios_to_truth):
        canvas = plot(Evaluation({}, ROLES, measures=evaluation.measures, records=near))
        canvas.canvas.draw()
        assert not any(axis.get_offset_text().get_text() for axes in canvas.axes for axis in (axes.xaxis, axes.yaxis))


def test_pictures_can_be_written(evaluation, tmp_path):
    for name, plot in (("gap", by_gap), ("frontier", perception_distortion), ("ratios", ratios_to_truth)):
        plot(evaluation).savefig(tmp_path / f"{name}.png", dpi=40)
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


COMMITTED = [path for path in sorted(EXPERIMENTS.rglob("*.json")) if '"measures"' in path.read_text()]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.relative_to(EXPERIMENTS)))
def test_committed_evaluations_load_and_their_tables_show_their_figures(path):
    evaluation = Evaluation.load(path)
    assert evaluation.levels
    words = [word for value in evaluation.about.values() for word in re.split(r"[ =,]", str(value))]
    assert not [word for word in words if word.startswith("/")]  # nobody else's machine has it
    table = path.with_suffix(".md")
    if table.is_file():
        for level in evaluation.levels:
            rows = rows_of(table.read_text(), f"Level {level}: missing frames")
            column = rows[""].index("MSE / linear")
            for method in evaluation.methods:
                found = evaluation.record("mse_ratio", method, "linear", level=level)
                ratio = found and Interval(found.value, found.low, found.high)
                assert rows[method][column] == Measure("", "").text(ratio)


def test_named_figures_are_a_row_per_name_with_the_formats_of_their_measures():
    measures = (Measure("ratio", "MSE / linear"), Measure("ends", "95%"), Measure("found", "found", percent=True))
    rows = [
        ("spline", {"ratio": 0.98765, "ends": [0.9, 1.23456], "found": 0.876, "unused": 1}),
        ("linear", {"ratio": 1.0, "ends": [1.0, 1.0], "found": None}),
    ]
    assert figure_table("K = 5", rows, measures) == (
        "| K = 5 | MSE / linear | 95% | found |\n| --- | ---: | ---: | ---: |\n"
        "| spline | 0.988 | 0.900-1.235 | 88% |\n| linear | 1.000 | 1.000-1.000 | – |\n"
    )
