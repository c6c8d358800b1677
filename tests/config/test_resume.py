"""The options of long runs reach the objects that use them."""

import signal

import pytest

from interp_refiner.config import Refused, build
from interp_refiner.config.command_line import CommandLine
from interp_refiner.core import BadValue
from interp_refiner.train import train
from interp_refiner.training.callback import Preemption, SkipNonFinite, Watchdog
from interp_refiner.training.checkpoint import RollingCheckpoint
from tests.config.test_compose import check, composed


def test_the_same_name_is_the_same_folder_and_goes_on_from_its_last_checkpoint(tmp_path):
    cfg = composed("train", "+resume=auto", "paths.run_name=long", f"paths.log_dir={tmp_path}")
    assert cfg.hydra.run.dir == f"{tmp_path}/train/runs/long"
    assert cfg.ckpt_path == "last"
    check("train", cfg, tmp_path)


def test_a_run_that_goes_on_needs_a_name_and_slurm_gives_one(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    assert composed("train", "+resume=auto").paths.run_name == "4711"
    monkeypatch.delenv("SLURM_JOB_ID")
    said = r"^paths\.run_name has no value: set paths\.run_name=<value>, or SLURM_JOB_ID in the environment$"
    for more in ([], ["hydra.run.dir=somewhere"]):
        with pytest.raises(Refused, match=said):
            train.program.check_line(CommandLine.read(["+resume=auto", "trainer=cpu", *more], []))


def test_options_of_long_runs(tmp_path):
    options = ["checkpoint.every_n_steps=7", "checkpoint.keep_last=5", "checkpoint.save_optimizer=false"]
    options += ["callback.preemption.signals=[SIGUSR2]", "callback.skip_non_finite.patience=3"]
    options += ["callback.watchdog.timeout=60.0", "strategy=ddp", "trainer.strategy.timeout.minutes=1", "trainer=cpu"]
    cfg = composed("train", *options, f"paths.output_dir={tmp_path}")
    check("train", cfg, tmp_path)
    rolling = build(cfg.checkpoint)
    assert isinstance(rolling, RollingCheckpoint)
    assert (rolling.every_n_steps, rolling.keep_last, rolling.save_optimizer) == (7, 5, False)
    assert rolling.folder == tmp_path / "checkpoints"
    preemption, skip, watchdog = (build(cfg.callback[name]) for name in ("preemption", "skip_non_finite", "watchdog"))
    assert isinstance(preemption, Preemption)
    assert preemption.signals == [signal.SIGUSR2]
    assert isinstance(skip, SkipNonFinite)
    assert skip.patience == 3
    assert isinstance(watchdog, Watchdog)
    assert watchdog.timeout == 60
    assert build(cfg.trainer).strategy._timeout.total_seconds() == 60


def test_a_run_without_checkpoints_composes(tmp_path):
    cfg = composed("train", "checkpointing=none")
    check("train", cfg, tmp_path)
    assert cfg.get("checkpoint") is None
    assert cfg.callback.best_checkpoint is None
    assert cfg.trainer.enable_checkpointing is False


@pytest.mark.parametrize("option", ["every_n_steps", "keep_last"])
def test_sizes_below_one_are_refused(option, tmp_path):
    cfg = composed("train", f"checkpoint.{option}=0", f"paths.output_dir={tmp_path}")
    with pytest.raises(BadValue, match=f"checkpoint.{option}=0: expected at least 1"):
        build(cfg.checkpoint)
