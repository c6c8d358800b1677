"""The record of a run: written atomically, read back, and correct about processes that have ended."""

import errno
import json
import multiprocessing
import os
from types import SimpleNamespace

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.training.record import STATUS_FILE, RunRecord, read_record, twin_folder, write_record
from interp_refiner.training.record.recording import Recording


def a_record(**fields):
    return RunRecord("9f2c", "gt_keyframes", **{"overrides": ["corruption=dist"], "git_dirty": False, **fields})


def test_what_is_written_is_read_back(tmp_path):
    record = a_record(status="finished", metrics={"val/mean/ratio": 0.75}, settings={"corruption.sigma": 0.5})
    write_record(tmp_path / "run", record)
    assert read_record(tmp_path / "run") == record
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [STATUS_FILE]


def test_a_full_disk_does_not_hide_why_a_run_has_ended(tmp_path, monkeypatch, caplog):
    def full(folder, record):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("interp_refiner.training.record.recording.write_record", full)
    recording = Recording(tmp_path, a_record())
    recording.end("failed", "the reason")
    assert "status.json could not be updated: [Errno 28] No space left on device" in caplog.text


def test_a_figure_that_is_no_number_is_null(tmp_path):
    write_record(tmp_path, a_record(metrics={"a": float("nan"), "b": float("inf"), "c": None, "d": 2.0}))
    assert json.loads((tmp_path / STATUS_FILE).read_text())["metrics"] == {"a": None, "b": None, "c": None, "d": 2.0}


def test_a_folder_without_a_record_has_none(tmp_path):
    assert read_record(tmp_path) is None


def test_a_run_whose_process_is_gone_was_interrupted(tmp_path):
    gone = multiprocessing.get_context("fork").Process(target=os.getpid)
    gone.start()
    gone.join()
    for pid, status in ((os.getpid(), "running"), (gone.pid, "interrupted")):
        write_record(tmp_path, a_record(pid=pid))
        assert read_record(tmp_path).status == status
    write_record(tmp_path, a_record(pid=gone.pid, hostname="another machine"))
    assert read_record(tmp_path).status == "running"


def test_fields_of_a_later_version_are_left_out(tmp_path):
    write_record(tmp_path, a_record(steps=7, pid=os.getpid()))
    found = json.loads((tmp_path / STATUS_FILE).read_text()) | {"colour": "blue"}
    (tmp_path / STATUS_FILE).write_text(json.dumps(found))
    assert read_record(tmp_path).steps == 7


@pytest.mark.parametrize("text", ["[1]", "{", '{"identity": "1", "status": "done"}', "{}"])
def test_what_is_no_record_is_named(text, tmp_path):
    (tmp_path / STATUS_FILE).write_text(text)
    with pytest.raises(BadValue, match=r"status.*expected .*status\.json|status\.json=.*expected (the record|a file)"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("metrics", [1]), ("metrics", {"val/mse": "low"}), ("overrides", 3), ("steps", "x"), ("experiment", None),
     ("error", 3), ("overrides", [3]), ("versions", {"torch": [2]}), ("metrics", {"val/mean/ratio": "x"}),
     ("steps", True), ("peak_memory_gb", []), ("status", ["running"]), ("settings", "none")],
)  # fmt: skip
def test_a_field_of_another_kind_is_named(tmp_path, field, value):
    write_record(tmp_path, RunRecord(identity="a", status="finished", samples_per_second=3))
    assert read_record(tmp_path).samples_per_second == 3
    found = json.loads((tmp_path / STATUS_FILE).read_text()) | {field: value}
    (tmp_path / STATUS_FILE).write_text(json.dumps(found))
    with pytest.raises(BadValue, match=rf"^status\.json=.*: expected the record of a run: {field}"):
        read_record(tmp_path)


def test_a_duplicate_points_to_the_run_that_has_the_figures(tmp_path):
    assert twin_folder(tmp_path / "2", a_record(duplicate_of="../0")) == tmp_path / "0"
    assert twin_folder(tmp_path / "2", a_record()) == tmp_path / "2"


def test_peak_memory_is_that_of_the_trainers_device(tmp_path, monkeypatch):
    """With trainer=cpu the GPU of the machine is left alone."""
    device, seen = torch.device("cpu"), []
    monkeypatch.setattr("interp_refiner.training.record.recording.forget_peak_memory", seen.append)
    monkeypatch.setattr("interp_refiner.training.record.recording.peak_memory", lambda d: seen.append(d) or 2e9)
    trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=device), world_size=1, global_step=3, callbacks=[], callback_metrics={}
    )
    recording = Recording(tmp_path, a_record())
    recording.start(trainer, SimpleNamespace(describe=lambda: {}))
    recording.end("finished")
    assert seen == [device, device]
    assert recording.record.peak_memory_gb == 2.0
