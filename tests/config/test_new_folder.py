"""A refused run leaves no folder of its own, and removes no other."""

import logging
import os
import sys
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


def test_a_later_process_removes_nothing(refused, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert refused().is_dir()


def test_a_folder_with_more_than_logs_stays(tmp_path):
    new = NewFolder(tmp_path / "runs/12-00-00")
    made = tmp_path / "runs/12-00-01"  # the clock went on
    (made / ".hydra").mkdir(parents=True)
    (made / "train.log").touch()
    (made / "status.json").touch()
    new.remove(made)
    assert made.is_dir()
    (made / "status.json").unlink()
    new.remove(made)
    assert os.listdir(tmp_path) == []


def test_a_folder_in_another_place_stays(tmp_path):
    new = NewFolder(tmp_path / "runs/one")
    (tmp_path / "elsewhere/one").mkdir(parents=True)
    new.remove(tmp_path / "elsewhere/one")
    assert (tmp_path / "elsewhere/one").is_dir()
