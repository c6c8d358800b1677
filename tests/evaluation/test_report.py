"""Tables and plots show the figures they were given."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from interp_refiner.evaluation import (
    Evaluation,
    error_by_gap,
    figure,
    markdown_report,
    perception_distortion,
    temporal_ratios,
)
from interp_refiner.evaluation.measures import (
    Bootstrap,
    ErrorTable,
    FrechetDistance,
    Interval,
    KeyframeContract,
    MazeScores,
    RandomConvFeatures,
    Realism,
    ScoreTable,
    StochasticScores,
)
from interp_refiner.evaluation.report import markdown_table, shown
from interp_refiner.evaluation.terminal import compact_row

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
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


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Two levels, gaps of 4 and 2: at level 1 no step lies inside a gap."""
    names = list(ROLES)
    errors, scores = (table(names, ["linear"], bootstrap=FEW) for table in (ErrorTable, ScoreTable))
    realism, stochastic, index = Realism(names, FEW), StochasticScores(2, FEW), torch.arange(B)
    result = Evaluation({"checkpoint": "runs/a|b", "clips": B}, ROLES)
    for s, step in ((1, 2), (2, 4)):
        estimates, truth, known = clips_at(step)
        level = torch.full((B,), s)
        for metric in (errors, scores, realism):
            metric.update(estimates, truth, known, level, index)
        frechet = FrechetDistance(names, ["linear"], RandomConvFeatures(2, width=4))
        frechet.update(estimates, truth, index)
        result.frechet.append({"level": s, "values": frechet.compute()})
        samples = torch.stack([estimates["refined"], estimates["linear"]])
        stochastic.update(samples, truth, known, level, index)
        contract = KeyframeContract()
        contract.update(estimates["refined"], truth, known)
        result.contract.setdefault("refined", []).append({"level": s, "values": contract.compute()})
    result.errors, result.scores, result.realism = errors.compute(), scores.compute(), realism.compute()
    result.stochastic = {"refined": stochastic.compute()}
    return result


@pytest.fixture(scope="module")
def mazes() -> Evaluation:
    g = torch.Generator().manual_seed(0)
    clean = torch.rand(B, 2, T, generator=g)
    known = (torch.arange(T) % 4 == 0).expand(B, T)
    estimates = {"refined": clean + 0.01 * torch.randn(clean.shape, generator=g), "linear": clean + 0.05}
    metric = MazeScores(["refined", "linear"], ["linear"], bootstrap=FEW)
    walls = torch.rand(B, 6, 6, generator=g) < 0.2
    metric.update(estimates, clean, walls, known, torch.ones(B, dtype=torch.long), torch.arange(B))
    return Evaluation({}, {"refined": "estimate", "linear": "baseline"}, mazes=metric.compute())


def rows_of(report: str, heading: str) -> dict[str, list[str]]:
    """The table under a heading: cells by the first cell of their row."""
    section = report.split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


def test_survives_a_file(evaluation, tmp_path):
    evaluation.save(tmp_path / "evaluation.json")
    again = Evaluation.load(tmp_path / "evaluation.json")
    assert again.methods == ROLES
    assert again.levels == evaluation.levels == [1, 2]
    assert again.gaps == evaluation.gaps == [2, 4]
    assert again.errors == evaluation.errors
    # NaN is no JSON: it is written as null and read as NaN
    assert "NaN" not in (tmp_path / "evaluation.json").read_text()
    assert math.isnan(figure(again.realism, "inside_motion/linear", level=1).value)
    assert markdown_report(again) == markdown_report(evaluation)


def test_infinity_becomes_null_too(tmp_path):
    Evaluation({"worst": math.inf, "shape": (2, math.nan)}, {}).save(tmp_path / "e.json")
    assert json.loads((tmp_path / "e.json").read_text())["about"] == {"worst": None, "shape": [2, None]}


def test_finds_figures_by_exact_keys(evaluation):
    whole = figure(evaluation.errors, "mse_ratio/refined/linear", level=2)
    assert whole.value == pytest.approx(0.25, rel=1e-5)
    assert figure(evaluation.errors, "mse_ratio/refined/linear", gap=4).value == pytest.approx(0.25, rel=1e-5)
    cell = figure(evaluation.errors, "mse/linear", level=2, gap=4, offset=3)
    assert cell.low < cell.value < cell.high
    assert figure(evaluation.errors, "mse/linear", level=3) is None
    assert figure(evaluation.errors, "mse/nobody", level=2) is None


def test_report_shows_the_figures(evaluation):
    report = markdown_report(evaluation, plots=["gap.png"])
    errors = rows_of(report, "Level 2: missing frames")
    assert errors["refined"][1] == "0.250 (0.250..0.250)"
    assert errors["refined"][2] == "100% (100..100%)"
    gain = figure(evaluation.scores, "psnr_gain/refined/linear", level=2)
    assert errors["refined"][4] == f"{gain.value:.2f} ({gain.low:.2f}..{gain.high:.2f})"
    assert (errors["truth"][3], errors["truth"][5]) == ("100.00", "1.0000")
    mse = figure(evaluation.errors, "mse/linear", level=2).value
    assert errors["linear"][:2] == [f"{mse:.4f}", "–"]
    realism = rows_of(report, "Level 1: realism (1 is the truth)")
    assert realism["truth"] == ["0.000", "0.000 (0.000..0.000)", "1.00 (1.00..1.00)", "–"] + ["1.00 (1.00..1.00)"] * 2
    assert float(realism["halves of the truth"][0]) > 0
    assert rows_of(report, "MSE / linear by gap")["4"][1] == "0.250 (0.250..0.250)"
    assert rows_of(report, "Keyframes")["refined, level 1"][0] == "100%"
    assert len(rows_of(report, "Several samples per clip")) == 2 + 2
    assert "`runs/a\\|b`" in report
    assert report.endswith("\n![gap.png](gap.png)\n")


def test_scores_of_a_part_of_the_clips_say_so_and_have_their_intervals(evaluation):
    """Of few clips a difference may have another sign than of all."""
    part = replace(evaluation, about={"clips": B, "clips decoded": 4})
    report = markdown_report(part)
    assert rows_of(report, "Level 2: missing frames, PSNR and SSIM, of 4 of 12 clips")["refined"]
    psnr = figure(part.scores, "psnr/refined", level=2)
    assert shown(psnr, digits=2) in report
    assert shown(psnr, digits=2) not in markdown_report(evaluation)
    assert "## Level 2: realism (1 is the truth), of 4 of 12 clips" in report
    assert "(" in compact_row(part, 2, "refined")["PSNR"]
    whole = replace(evaluation, about={"clips": B, "clips decoded": B})
    assert "(" not in compact_row(whole, 2, "refined")["PSNR"]
    assert " of 12 clips" not in markdown_report(whole)


def test_report_compares_with_the_run_s_own_interpolation_too(evaluation):
    records = [r | {"values": r["values"] | own(r["values"])} for r in evaluation.errors]
    methods = {"refined": "estimate", "spline": "baseline", "linear": "baseline", "truth": "control"}
    two = Evaluation({}, methods, errors=records)
    assert two.baselines == ["linear", "spline"]
    errors = rows_of(markdown_report(two), "Level 2: missing frames")
    assert errors[""][1:5] == ["MSE / linear", "better than linear", "MSE / spline", "better than spline"]
    assert errors["refined"][3:5] == ["0.750 (0.700..0.800)", "60% (50..70%)"]


def own(values: dict) -> dict:
    """Figures relative to an interpolation beside the linear one."""
    ratio, better = {"value": 0.75, "low": 0.7, "high": 0.8}, {"value": 0.6, "low": 0.5, "high": 0.7}
    return {"mse_ratio/refined/spline": ratio, "mse_better/refined/spline": better}


def test_what_was_not_measured_is_left_out(mazes):
    report = markdown_report(mazes)
    assert [line for line in report.splitlines() if line.startswith("#")] == ["# Evaluation", "## Level 1: paths"]
    paths = rows_of(report, "Level 1: paths")
    assert paths["refined"][1:4] == ["100%", "0%", "0%"]
    rate = figure(mazes.mazes, "collision_rate/truth", level=1).value
    assert paths["truth"][5].startswith(f"{100 * rate:.0f}%")
    assert len(paths["truth"]) == 8


def test_table_and_numbers():
    assert markdown_table(["", "a"], [["x", "1"]]) == "|  | a |\n| --- | ---: |\n| x | 1 |\n"
    assert shown(None) == "–"
    assert shown(0.12345, digits=2) == "0.12"
    assert shown(Interval(0.5, 0.25, 0.75), percent=True) == "50% (25..75%)"
    assert shown(Interval(0.5, 0.25, 0.75), interval=False) == "0.500"
    assert shown(Interval(math.nan, math.nan, math.nan), interval=False) == "–"


def test_error_by_gap_draws_the_ratios(evaluation):
    (axes,) = error_by_gap(evaluation).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["refined"].get_xdata()) == [2, 4]
    assert list(lines["refined"].get_ydata()) == pytest.approx([0.25, 0.25], rel=1e-5)
    assert "linear" not in lines
    assert "linear" in {text.get_text() for text in axes.texts}


def test_perception_distortion_places_every_method(evaluation):
    panels = perception_distortion(evaluation).axes
    assert [axes.get_title() for axes in panels] == ["level 1", "level 2"]
    for axes, level in zip(panels, (1, 2), strict=True):
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        assert handles.keys() == {"refined", "truth", "linear", "halves of the truth"}
        places = {bars.get_label(): bars.lines[0].get_xydata()[0].tolist() for bars in axes.containers}
        ratio = figure(evaluation.frechet, "frechet_ratio/refined/linear", level=level).value
        assert places["refined"] == pytest.approx((0.25, ratio), rel=1e-5)
        assert places["truth"] == pytest.approx((0, 0), abs=1e-6)


def test_far_controls_are_left_out_of_the_gaps_but_estimates_never_are(evaluation):
    def drawn_as(role: str) -> set[str]:
        far = [record | {"values": scaled(record["values"])} for record in evaluation.errors]
        methods = {"refined": role, "linear": "baseline", "truth": "estimate"}
        (axes,) = error_by_gap(Evaluation({}, methods, errors=far)).axes
        return {line.get_label() for line in axes.lines}

    def scaled(values: dict) -> dict:
        return {name: {k: 100 * v for k, v in interval.items()} for name, interval in values.items()}

    assert "refined" not in drawn_as("control")
    assert "refined" in drawn_as("estimate")


def test_temporal_ratios_draw_boundary_and_inside(evaluation):
    panels = temporal_ratios(evaluation).axes
    assert [[tick.get_text() for tick in axes.get_yticklabels()] for axes in panels] == [list(ROLES), [""] * 3]
    for axes, level in zip(panels, (1, 2), strict=True):
        drawn = [point[0] for line in axes.lines if len(line.get_xdata()) == 1 for point in [line.get_xdata()]]
        names = [f"{q}/{m}" for q in ("boundary_motion", "inside_motion") for m in ROLES]
        expected = [figure(evaluation.realism, name, level=level).value for name in names]
        assert drawn == pytest.approx(expected, nan_ok=True)


def test_pictures_can_be_written(evaluation, tmp_path):
    for name, plot in (("gap", error_by_gap), ("frontier", perception_distortion), ("motion", temporal_ratios)):
        plot(evaluation).savefig(tmp_path / f"{name}.png", dpi=40)
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


COMMITTED = [path for path in sorted(EXPERIMENTS.rglob("*.json")) if '"frechet"' in path.read_text()]


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
            for method in evaluation.methods:
                ratio = shown(figure(evaluation.errors, f"mse_ratio/{method}/linear", level=level))
                assert rows[method][1] == ratio
