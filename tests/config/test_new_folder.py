"""A refused run leaves no folder of its own, and removes no other."""

import logging
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from interp_refiner.config.new_folder import NewFolder
from tests.config.toy_program import toy


@pytest.fixture
def refused(monkeypatch, tmp_path):
    """Runs the toy program, which refuses its data after Hydra has made the run's folder; returns the folder."""

    def run(*arguments: str) -> Path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["toy", "mode=bad_data", *arguments])
        logging.root.handlers.clear()  # Hydra's last handlers write to the stdout of the test before
        with pytest.raises(SystemExit) as end:
            toy()
        assert end.value.code == 2
        return tmp_path / "runs/toy_program"

    return run


def test_a_run_that_is_refused_after_its_start_leaves_no_folder(refused):
    assert not refused().parent.exists()


def test_folders_that_stood_before_stay(refused, tmp_path):
    (tmp_path / "runs").mkdir()
    assert not refused().exists()
    assert (tmp_path / "runs").is_dir()
    (tmp_path / "runs/toy_program").mkdir()
    assert (refused() / ".hydra/config.yaml").is_file()


@pytest.mark.parametrize("mode", ["run", "bad_data"])
def test_a_dry_run_and_a_refused_one_leave_no_folder_and_remove_no_other(monkeypatch, tmp_path, mode):
    monkeypatch.chdir(tmp_path)
    logging.root.handlers.clear()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.log").write_text("keep me")
    for folder in ("runs/new", "mine"):
        arguments = [f"mode={mode}", "+dry_run=true", f"hydra.run.dir={folder}"]
        monkeypatch.setattr(sys, "argv", ["toy", *arguments])
        with pytest.raises(SystemExit) if mode == "bad_data" else nullcontext():
            toy()
    assert os.listdir(tmp_path) == ["mine"]
    assert (tmp_path / "mine/notes.log").read_text() == "keep me"


def test_a_later_process_removes_nothing(refused, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert refused().is_dir()


def test_a_folder_with_more_than_logs_stays(tmp_path):
    new = NewFolder(tmp_path / "runs/12-00-00")
    made = tmp_path / "runs/12-00-01"  # the clock went on
    (made / ".hydra").mkdir(parents=True)
    (made / ".hydra/overrides.yaml").write_text("- seed=1\n")
    (made / "train.log").touch()
    (made / "status.json").touch()
    new.undo(made, ["seed=1"])
    assert made.is_dir()
    (made / "status.json").unlink()
    new.undo(made, ["seed=2"])  # another run, started in the same second
    assert made.is_dir()
    new.undo(made, ["seed=1"])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("changed", ["train.log", "status.json"])
def test_hydras_config_of_an_older_run_is_kept_until_the_folder_changes(tmp_path, changed):
    folder = tmp_path / "runs/long"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/overrides.yaml").write_text("- seed=1\n")
    new = NewFolder(folder)
    (folder / ".hydra/overrides.yaml").write_text("- seed=2\n")
    (folder / changed).touch()
    new.undo(folder, ["seed=2"])
    kept = 1 if changed == "train.log" else 2
    assert (folder / ".hydra/overrides.yaml").read_text() == f"- seed={kept}\n"


def test_a_folder_in_another_place_stays(tmp_path):
    new = NewFolder(tmp_path / "runs/one")
    (tmp_path / "elsewhere/one/.hydra").mkdir(parents=True)
    (tmp_path / "elsewhere/one/.hydra/overrides.yaml").write_text("[]")
    new.undo(tmp_path / "elsewhere/one", [])
    assert (tmp_path / "elsewhere/one").is_dir()
