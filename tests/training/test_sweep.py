"""Sweeps of training runs: which jobs run once, which run again, and which files remain."""

import json
import logging
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from interp_refiner.core import BadValue, Stopped
from interp_refiner.evaluation import Evaluation
from interp_refiner.train import train
from interp_refiner.training.record import Claimed, LogBook, RunRecord, read_record, twin_folder, write_record
from interp_refiner.training.record.log_book import facts
from interp_refiner.training.record.recording import duplicate, follow, recorded
from tests.config.small import SMALL, small_config

QUIET = ["logger=none", "callback.progress=null", "callback.validation_video=null", "callback.validation_table=null"]
ONE_LAYER = [
    *QUIET,
    "backbone=wan_tiny",
    "backbone.size.num_layers=1",
    "backbone.size.num_attention_heads=1",
    "backbone.size.ffn_dim=32",
]


@pytest.fixture
def launch(monkeypatch, tmp_path):
    """Runs the program in this process as its command line would; returns the exit code."""

    def start(*arguments):
        places = [f"paths.root={tmp_path}", f"paths.log_dir={tmp_path / 'logs'}", f"paths.cache={tmp_path / 'cache'}"]
        monkeypatch.setattr(sys, "argv", ["train", *arguments, *SMALL, *ONE_LAYER, *places])
        logging.root.handlers.clear()
        try:
            train()
        except SystemExit as end:
            return end.code
        return 0

    return start


def test_a_run_that_is_refused_after_its_start_leaves_no_folder(launch, tmp_path, capfd):
    refused = ["+experiment=toy_video", "initial_weights=shipped"]
    assert launch(*refused) == 2
    assert "initial_weights=shipped: expected a run of the same backbone" in capfd.readouterr().err
    assert not (tmp_path / "logs/train").exists()
    (mine := tmp_path / "mine").mkdir()
    assert launch(*refused, f"hydra.run.dir={mine}", f"paths.output_dir={mine}") == 2
    assert {file.name for file in mine.iterdir()} == {".hydra", "train.log"}


def records(folder: Path) -> list[RunRecord]:
    return [read_record(folder / str(number)) for number in range(len(list(folder.glob("[0-9]*"))))]


def test_none_is_run_once_a_failed_job_loses_no_other_and_a_restart_runs_what_is_missing(
    launch, monkeypatch, tmp_path, capfd
):
    from interp_refiner.train import assemble

    def broken(cfg):
        if cfg.corruption.noise._target_.endswith("Gauss") and cfg.corruption.sigma == 0.1:
            raise RuntimeError("cosmic ray")
        return assemble(cfg)

    grid = ["-m", "corruption=none,gauss", "corruption.sigma=0.1,0.3"]
    monkeypatch.setattr("interp_refiner.train.assemble", broken)
    assert launch(*grid, f"hydra.sweep.dir={tmp_path / 'a'}") == 4
    first = records(tmp_path / "a")
    assert [record.status for record in first] == ["finished", "duplicate", "failed", "finished"]
    assert first[1].duplicate_of == "../0"
    assert first[1].identity == first[0].identity
    assert first[2].error == "RuntimeError: cosmic ray"
    assert first[3].overrides[:2] == ["corruption=gauss", "corruption.sigma=0.3"]
    told = capfd.readouterr()
    assert f"duplicate of {tmp_path / 'a' / '0'} (finished)" in told.out
    assert "cosmic ray" in told.err

    monkeypatch.setattr("interp_refiner.train.assemble", assemble)
    assert launch(*grid, f"hydra.sweep.dir={tmp_path / 'b'}") == 0
    second = records(tmp_path / "b")
    assert [record.status for record in second] == ["duplicate", "duplicate", "finished", "duplicate"]
    twins = [twin_folder(tmp_path / "b" / str(i), record) for i, record in enumerate(second)]
    assert twins == [tmp_path / place for place in ("a/0", "a/0", "b/2", "a/3")]


def test_the_recipe_is_the_grid(launch, monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr("interp_refiner.train.fit", lambda cfg, recording: made.append(cfg.corruption) or {"x": 0.5})
    assert launch("+sweep=sigma", "optimized_metric=x", f"hydra.sweep.dir={tmp_path / 'a'}") == 0
    sigmas = [(corruption.noise._target_.rpartition(".")[2], corruption.sigma) for corruption in made]
    assert sigmas == [("Noiseless", 0.1)] + [(m, s) for m in ("BrownianBridge", "Gauss") for s in (0.1, 0.3, 0.5)]
    assert [record.status for record in records(tmp_path / "a")].count("duplicate") == 2


def test_a_duplicate_returns_the_figure_of_its_twin(tmp_path):
    cfg = small_config(tmp_path, "optimized_metric=x")
    twin = RunRecord("0", status="finished", metrics={"x": 0.25})
    write_record(tmp_path / "twin", twin)
    assert duplicate(cfg, train.program, tmp_path / "twin") == 0.25
    assert twin_folder(tmp_path / "run", read_record(tmp_path / "run")) == tmp_path / "twin"
    write_record(tmp_path / "twin", replace(twin, status="running"))
    assert math.isnan(duplicate(cfg, train.program, tmp_path / "twin"))
    cfg.optimized_metric = None
    assert duplicate(cfg, train.program, tmp_path / "twin") is None


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Stopped("SIGTERM: stopped", 75), "interrupted", "SIGTERM: stopped"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt: "),
        (Stopped("no space", 3), "failed", "no space"),
        (RuntimeError("two\nlines"), "failed", "RuntimeError: two lines"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_how_a_run_ends_is_recorded_and_entered(error, status, reason, tmp_path):
    cfg = small_config(tmp_path, f"log_book={tmp_path / 'log'}")
    seen = []

    def fail(recording):
        seen.append(read_record(tmp_path / "run").status)
        raise error

    with pytest.raises(type(error)), recorded(cfg, train.program) as recording:
        fail(recording)
    assert seen == ["running"]
    found = read_record(tmp_path / "run")
    assert (found.status, found.error.strip()) == (status, reason.strip())
    assert found.ended >= found.started
    assert recording.record == found
    assert [facts(path)["status"] for path in (tmp_path / "log").glob("*.md")] == [status]


@pytest.mark.parametrize("stood", [True, False])
def test_a_run_that_is_refused_before_it_trains_leaves_the_record_as_it_was(stood, tmp_path):
    cfg = small_config(tmp_path, f"log_book={tmp_path / 'log'}")
    before = RunRecord("0", status="finished", steps=7, metrics={"x": 0.25}) if stood else None
    if before is not None:
        write_record(tmp_path / "run", before)
    with pytest.raises(BadValue), recorded(cfg, train.program):
        raise BadValue("keyframe_fraction", -1, "0")
    assert read_record(tmp_path / "run") == before
    assert not (tmp_path / "log").exists()


def test_a_run_is_evaluated_and_entered_at_its_end(tmp_path):
    short = ["trainer.fast_dev_run=false", "trainer.max_steps=2", "trainer.val_check_interval=2", "data.val_samples=2"]
    more = ["evaluation={clips:4,scores_clips:2,batch_size:4}", f"log_book={tmp_path / 'log'}", "corruption=gauss"]
    cfg = small_config(tmp_path, *ONE_LAYER, *short, *more)
    train(cfg)
    run = tmp_path / "run"
    record, summary = read_record(run), json.loads((run / "summary.json").read_text())
    assert (record.status, record.steps, record.data["samples"]) == ("finished", 2, 16)
    assert record.metrics == {name: value for name, value in summary.items() if name.startswith("val/")}
    assert record.settings["corruption.noise._target_"] == "interp_refiner.forward.corruption.Gauss"
    assert record.settings["trainer.max_steps"] == 2
    assert record.peak_memory_gb is None or record.peak_memory_gb > 0
    assert Evaluation.load(run / "evaluation" / "evaluation.json").levels == [1, 2, 3, 4]
    [entry] = (tmp_path / "log").glob("*.md")
    assert str(tmp_path) not in entry.read_text()
    assert facts(entry)["ratio"] == record.metrics["val/mean/ratio"]
    assert LogBook(tmp_path / "log").write_index().read_text().count("finished") == 1


def test_the_log_book_is_off_in_debug_runs_and_away_from_the_checkout_in_tests(tmp_path):
    assert small_config(tmp_path).log_book is None
    cfg = train.program.compose(f"paths.output_dir={tmp_path}")
    assert not Path(cfg.log_book).is_relative_to(Path(__file__).resolve().parents[2])


def test_later_processes_of_a_scheduler_do_what_the_first_one_does(monkeypatch, tmp_path):
    monkeypatch.setattr("interp_refiner.training.record.recording.sweeping", lambda: True)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    before = RunRecord("x", status="duplicate", duplicate_of="../0", job="6.0")  # of a job that was put back
    write_record(tmp_path / "1", before)
    with pytest.raises(Stopped, match="has not begun after 0 s"):
        follow(tmp_path / "1", patience=0.1)
    write_record(tmp_path / "1", replace(before, job="7.0"))
    with pytest.raises(Claimed, match=r"duplicate of .*/0$"):
        follow(tmp_path / "1")
    write_record(tmp_path / "1", RunRecord("x", job="7.0"))
    follow(tmp_path / "1")
    monkeypatch.delenv("SLURM_JOB_ID")
    follow(tmp_path / "2")
