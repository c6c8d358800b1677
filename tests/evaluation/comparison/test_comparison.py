"""Comparison of several runs, on folders with known numbers."""

import copy
import json
import math
import random

import pytest
import yaml

from interp_refiner.core import BadValue, Interval
from interp_refiner.evaluation import Column
from interp_refiner.evaluation.comparison import Comparison, find_runs, read_run, read_runs
from interp_refiner.evaluation.comparison.compare import overlap
from interp_refiner.evaluation.comparison.page import facts, headlines
from interp_refiner.evaluation.comparison.plots import averaged, learning_curves, plots_of, undominated
from interp_refiner.evaluation.comparison.table import columns_of, verdict_text
from interp_refiner.evaluation.measures import Frechet, Realism, SquaredError
from tests.evaluation.comparison.synthetic import add_clips, evaluate, make_run, sigma_sweep

MSE = Column(SquaredError.measures[0].family[1], "linear")
FRECHET = Column(Frechet.measures[0].family[1], "linear")
AT_KEYFRAMES = Column(Realism.measures[0])


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return sigma_sweep(tmp_path_factory.mktemp("train") / "2026-01-31_12-00-00")


def compared(*folders, against=None):
    return Comparison(read_runs(find_runs(folders)), against)


def test_jobs_come_in_the_order_of_their_numbers_once_however_they_are_named(tmp_path):
    for number in (10, 9, 1):
        make_run(tmp_path / "logs" / str(number), {"seed.x": number}, ratio=0.8)
    (tmp_path / "logs" / "1" / "evaluation" / ".hydra").mkdir()
    names = [path.name for path in find_runs([tmp_path / "logs"])]
    assert names == ["1", "9", "10"]
    assert find_runs([tmp_path / "logs", tmp_path / "logs" / "9"]) == find_runs([tmp_path / "logs"])
    assert [path.name for path in find_runs([tmp_path / "logs" / "9", tmp_path / "logs" / "1"])] == ["9", "1"]


def test_runs_of_two_sweeps_get_names_that_tell_them_apart(tmp_path):
    for sweep in ("a", "b"):
        make_run(tmp_path / sweep / "0", {"corruption": sweep})
    assert [run.name for run in read_runs(find_runs([tmp_path / "a", tmp_path / "b"]))] == ["a/0", "b/0"]


def test_the_swept_keys_and_what_is_plotted_against_which(sweep):
    comparison = compared(sweep)
    assert comparison.swept == ["corruption", "corruption.sigma"]
    assert comparison.against == "corruption.sigma"
    assert comparison.levels == [1, 2]
    labels = {row.label: (row.series, row.x) for row in comparison.rows if row.method is not None}
    assert labels["dist, sigma=0.3"] == ("dist", 0.3)
    assert set(labels) == {
        "none, sigma=0.0",
        *(f"{c}, sigma={s}" for c in ("dist", "gauss") for s in (0.1, 0.3)),
    }
    with pytest.raises(BadValue, match=r"against=sigma: expected a key in which .*did you mean 'corruption\.sigma'\?"):
        compared(sweep, against="sigma")


def test_the_best_by_how_much_and_whether_intervals_overlap(sweep):
    verdict = compared(sweep).verdict(MSE, 2)
    assert (verdict.best.label, verdict.second.label) == ("dist, sigma=0.3", "gauss, sigma=0.3")
    assert verdict.margin == pytest.approx(0.005)
    assert verdict.overlap is True
    assert [row.label for row in verdict.overlapping] == ["gauss, sigma=0.3"]
    assert verdict.compared == 5
    text = verdict_text(verdict)
    assert text.startswith("0.750 (0.740..0.760). That is 0.005 (0.7%) ahead of the next, gauss, sigma=0.3, with 0.755")
    assert "overlap (as do those of 1 of the 4 others in all)" in text


def test_intervals_that_are_apart_and_figures_without_any(tmp_path):
    make_run(tmp_path / "a", {"objective": "clean"}, ratio=0.7, half=0.01)
    make_run(tmp_path / "b", {"objective": "velocity"}, ratio=0.9, half=0.01)
    apart = compared(tmp_path).verdict(MSE, 2)
    assert apart.overlap is False
    assert "do not overlap" in verdict_text(apart)
    assert apart.tied == []
    (column,) = [c for c in columns_of(compared(tmp_path)) if (c.group, c.heading) == ("MSE / linear", "level 2")]
    assert [cell.mark for cell in column.cells] == ["best", ""]
    make_run(tmp_path / "c", {"objective": "correction"}, ratio=0.71, half=0)
    unsure = compared(tmp_path).verdict(MSE, 2)
    assert (unsure.second.label, unsure.overlap) == ("correction", None)
    assert "At least one of them has no interval" in verdict_text(unsure)
    alone = compared(tmp_path / "a").verdict(MSE, 2)
    assert alone.second is None
    assert "No other run" in verdict_text(alone)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [((0.1, 0.2), (0.2, 0.3), True), ((0.1, 0.2), (0.21, 0.3), False), ((0.1, 0.4), (0.2, 0.3), True)],
)
def test_intervals_overlap_where_they_have_a_point_in_common(a, b, expected):
    one, other = (Interval(sum(bounds) / 2, *bounds) for bounds in (a, b))
    assert overlap(one, other) is overlap(other, one) is expected
    assert overlap(one, Interval(0.15, math.nan, math.nan)) is None


def test_motion_is_best_nearest_to_one(tmp_path):
    for name, motion in (("a", 0.7), ("b", 1.2), ("c", 1.9)):
        run = make_run(tmp_path / name, {"objective": name}, ratio=0.8)
        file = run / "evaluation" / "evaluation.json"
        file.write_text(file.read_text().replace('"one_jump", 0.7,', f'"one_jump", {motion},'))
    assert compared(tmp_path).verdict(AT_KEYFRAMES, 1).best.label == "b"


def test_validation_stands_in_for_an_evaluation_only_where_it_has_the_same_base(tmp_path):
    for name in ("linear", "slerp"):
        make_run(tmp_path / name, {"interpolator": name}, ratio=0.8, half=0)
    linear, slerp = compared(tmp_path).rows
    assert linear.figure(MSE, 1).value == pytest.approx(0.72)
    assert math.isnan(linear.figure(MSE, 1).low)
    assert linear.figure(FRECHET, 1) is None
    assert slerp.figure(MSE, 1) is None


def test_the_table_has_every_swept_key_and_a_dash_for_what_is_missing(sweep):
    columns = {f"{column.group} {column.heading}".strip(): column.cells for column in columns_of(compared(sweep))}
    texts = {name: [cell.text for cell in cells] for name, cells in columns.items()}
    assert texts["corruption"] == ["none", "dist", "dist", "gauss", "gauss", "none", "gauss", "dist"]
    assert texts["MSE / linear level 2"] == ["0.820", "0.800", "0.750", "0.810", "0.755", "–", "–", "–"]
    assert columns["MSE / linear level 2"][2].interval == "0.740..0.760"
    assert [cell.mark for cell in columns["MSE / linear level 2"]] == ["", "", "near", "", "near", "", "", ""]
    assert texts["status"][5] == "duplicate of 0"
    assert texts["status"][7] == "failed: the disk is full <b>"
    assert texts["samples/s"][0] == "20.0"
    assert texts["steps"] == ["100"] * 6 + ["40", "100"]  # of the running one as logged


@pytest.mark.parametrize(
    ("status", "error", "shown"),
    [
        ("interrupted", "SIGINT: stopped after step 3; the same command with ckpt_path=/home/a/run goes on", "step 3"),
        ("failed", "OSError: /home/a/train.tar: no such file; really", "OSError: .../train.tar: no such file; really"),
    ],
)
def test_a_status_tells_no_folders_and_not_how_to_go_on(status, error, shown, tmp_path):
    make_run(tmp_path / "0", {"corruption": "dist"}, status=status, error=error)
    (run,) = compared(tmp_path).runs
    assert run.status.startswith(f"{status}: ")
    assert run.status.endswith(shown)
    assert "home" not in run.status


def test_a_duplicate_of_a_run_elsewhere_brings_its_figures(tmp_path):
    make_run(tmp_path / "first" / "0", {"corruption": "dist"}, ratio=0.77)
    twin = {"status": "duplicate", "duplicate_of": "../../first/0"}
    make_run(tmp_path / "second" / "0", {"corruption": "dist"}, **twin)
    (row,) = compared(tmp_path / "second").rows
    assert row.figure(MSE, 2).value == pytest.approx(0.77)
    assert [row.figure(MSE, 2) is None for row in compared(tmp_path).rows] == [False, True]


def test_files_that_are_being_written_count_as_not_there(tmp_path):
    whole = make_run(tmp_path / "whole", {"corruption": "dist"}, ratio=0.8)
    run = make_run(tmp_path / "half", {"corruption": "gauss"}, ratio=0.7)
    add_clips(run)
    for name in ("evaluation/evaluation.json", "evaluation/clips.json", "status.json", "config.yaml"):
        text = (run / name).read_text()
        (run / name).write_text(text[: len(text) // 2])
    (run / "csv" / "metrics.csv").write_text("epoch,step,train/loss\n0,9,0.5\n0,19")
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / "events.out.tfevents.1.host.1.0").write_bytes(b"\x18\x00\x00")
    broken = read_run(run)
    assert broken.evaluation is None
    assert broken.curves["train/loss"] == ([9], [0.5])
    comparison = compared(tmp_path)
    assert {row.run.path: row.figure(MSE, 2) is not None for row in comparison.rows} == {run: False, whole: True}


def test_the_newest_evaluation_counts_and_its_methods_are_rows(tmp_path):
    run = make_run(tmp_path / "0", {"corruption": "dist"}, ratio=0.8)
    evaluate(run / "later", ratio=0.6, frechet=0.5, half=0.01)
    file = run / "later" / "evaluation.json"
    file.write_text(file.read_text().replace('"methods": {', '"methods": {"bridge": "estimate", '))
    rows = compared(tmp_path).rows
    assert [row.method for row in rows] == ["bridge", "one_jump"]
    assert rows[0].figure(MSE, 2) is None
    assert rows[1].figure(MSE, 2).value == pytest.approx(0.6)


def test_records_hold_every_figure_once(sweep):
    comparison = compared(sweep)
    records = comparison.records()
    assert [column.heading for column in comparison.columns] == [
        "MSE / linear", "better MSE than linear", "Frechet / linear", "motion at keyframes", "motion in gaps"
    ]  # fmt: skip
    assert len(records) == 5 * 5 * 2
    best = min((r for r in records if r["measure"] == "MSE / linear"), key=lambda record: record["value"])
    assert (best["corruption"], best["corruption.sigma"], best["level"]) == ("dist", 0.3, 1)
    assert best["value"] == pytest.approx(0.675)


def test_every_plot_shows_its_figures(sweep):
    comparison = compared(sweep)
    plots = {plot.name: plot for plot in plots_of(comparison)}
    assert list(plots) == ["mse_ratio_by_level", "frechet_ratio_by_level", "perception_distortion", "learning_curves"]
    (_, sparsest) = plots["mse_ratio_by_level"].figures()
    lines = {container.get_label(): container[0] for container in sparsest.axes[0].containers}
    assert list(lines["dist"].get_xdata()) == [0.1, 0.3]
    assert list(lines["dist"].get_ydata()) == pytest.approx([0.80, 0.75])
    assert list(lines["none"].get_ydata()) == pytest.approx([0.82])
    assert len(plots["mse_ratio_by_level"].figure().axes) == 2
    colours = {name: colour for name, colour, _ in plots["mse_ratio_by_level"].legend()}
    assert len(set(colours.values())) == 3
    assert colours.items() <= {name: c for name, c, _ in plots["perception_distortion"].legend()}.items()


def test_runs_without_figures_make_no_plots(tmp_path):
    run = make_run(tmp_path / "0", {"corruption": "dist"}, status="running")
    (run / "csv" / "metrics.csv").unlink()
    comparison = compared(tmp_path)
    assert plots_of(comparison) == []
    assert learning_curves(comparison).panels == []
    assert comparison.verdict(MSE, 1) is None


def test_the_frontier_holds_what_nothing_beats():
    points = [(0.9, 0.2), (0.7, 0.5), (0.8, 0.3), (0.8, 0.6), (0.95, 0.2), (0.7, 0.9)]
    assert undominated(points) == [(0.7, 0.5), (0.8, 0.3), (0.9, 0.2)]


def test_curves_are_averaged_without_a_lag():
    steps, values = list(range(100)), [3.0 - 0.02 * step for step in range(100)]
    x, y = averaged(steps, values, windows=10)
    assert len(x) == 10
    assert y == pytest.approx([3.0 - 0.02 * at for at in x])


@pytest.mark.parametrize("what", ["nowhere", "empty"])
def test_no_such_folder_and_a_folder_without_runs_are_told(tmp_path, what):
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    reason = "no such folder" if what == "nowhere" else "there is none"
    with pytest.raises(BadValue, match=rf"^runs=.*{what}: expected a run folder, or .*: {reason}$"):
        find_runs([tmp_path / what])


def places(content, at=()):
    """The path of every value in a stored file."""
    yield at
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in inner:
        yield from places(value, (*at, name))


WRONG = (None, [], {}, [1], {"a": [{"b": 2}]}, "", "x", "it's", -3, True, [None], math.inf, "${x}", "???")


@pytest.mark.parametrize(
    "file",
    [
        "status.json",
        "summary.json",
        "evaluation/evaluation.json",
        "config.yaml",
        ".hydra/hydra.yaml",
        ".hydra/overrides.yaml",
    ],
)
def test_a_value_of_a_wrong_kind_in_a_run_counts_as_absent(tmp_path, file):
    rng = random.Random(file)
    runs = [make_run(tmp_path / name, {"corruption.sigma": value}, ratio=0.8) for name, value in (("a", 1), ("b", 2))]
    summary = {"experiment": "gt", "command": "train", "git_commit": "0", "steps": 3, "val/level_1/ratio": 0.5}
    (runs[0] / "summary.json").write_text(json.dumps(summary))
    (runs[0] / ".hydra" / "overrides.yaml").write_text("[corruption.sigma=1]")
    if not file.startswith(("status", "eval")):
        (runs[0] / "status.json").unlink()  # so that the older files count
    whole = yaml.safe_load((runs[0] / file).read_text())
    for _ in range(10):
        content, at, wrong = copy.deepcopy(whole), rng.choice(list(places(whole))), rng.choice(WRONG)
        *parents, last = ("all", *at)
        holder = {"all": content}
        for name in parents:
            holder = holder[name]
        if last == "all":
            content = wrong
        else:
            holder[last] = wrong
        (runs[0] / file).write_text(json.dumps(content))
        comparison = Comparison(read_runs(find_runs([tmp_path])))
        assert facts(comparison.runs)["runs"].startswith("2 runs"), (at, wrong)
        assert len(columns_of(comparison)[0].cells) >= 2, (at, wrong)
        headlines(comparison)


def test_a_damaged_table_of_curves_is_read_as_far_as_it_can_be(tmp_path):
    run = make_run(tmp_path / "a", {}, ratio=0.8)
    table = run / "csv" / "metrics.csv"
    content = table.read_bytes()
    table.write_bytes(content[:60] + b'\xff\x00"' + content[63:])
    whole, (steps, _) = (
        read_run(make_run(tmp_path / "b", {}, ratio=0.8)).curves["train/loss"],
        read_run(run).curves["train/loss"],
    )
    assert len(whole[0]) - 1 <= len(steps) <= len(whole[0])


def test_a_setting_that_cannot_be_resolved_has_its_override(tmp_path):
    run = make_run(tmp_path / "a", {"corruption.sigma": 1})
    (run / "config.yaml").write_text("corruption: ${gone}\n")
    assert read_run(run).value("corruption.sigma") == "1"
