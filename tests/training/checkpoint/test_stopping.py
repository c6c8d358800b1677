"""Runs that end before their time: signals, losses that are not finite, full disks, lost processes."""

import json
import os
import signal
import time

import lightning as L
import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.training.callback import Preemption, SkipNonFinite, Watchdog
from interp_refiner.training.callback.preemption import requeue_job
from tests.training.checkpoint.runs import At, finish, processes, record

pytestmark = pytest.mark.xdist_group("processes")  # one worker has their server


def printed(folder, rank=0):
    return (folder / f"printed_{rank}.txt").read_text()


def signalled(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.fixture(scope="module", autouse=True)
def hanging(tmp_path_factory):
    """They hang for a dozen seconds, in which the other tests of this module run.

    One run with a stopped process, seen by the timeout of the group; one stuck by itself, seen by its watchdog.
    """
    folder, short = tmp_path_factory.mktemp("hanging"), ["trainer.strategy.timeout.minutes=0.2"]
    group = processes(folder / "group", short, [At(2, signalled(signal.SIGSTOP), rank=1)], world=2)
    alone = processes(folder / "alone", ["callback.watchdog.timeout=10.0"], [At(1, lambda: time.sleep(1000))])
    yield folder, group, alone
    for process in (*group, *alone):
        process.kill()


def test_a_signal_to_either_process_stops_both_at_the_same_step_and_the_run_goes_on_exactly(tmp_path):
    """SIGTERM after the first of the two micro-batches (4, 5) of step 3, in the second process only."""
    options = ["trainer.accumulate_grad_batches=2", "trainer.max_steps=5", "checkpoint.every_n_steps=100"]
    at = [At(4, signalled(signal.SIGTERM), rank=1)]
    assert finish(processes(tmp_path / "whole", options, (), world=2)) == [0, 0], printed(tmp_path / "whole")
    assert finish(processes(tmp_path / "stopped", options, at, world=2)) == [75, 75], printed(tmp_path / "stopped")
    saved = tmp_path / "stopped" / "run" / "checkpoints" / "step_000003.ckpt"
    assert f"SIGTERM: stopped after step 3; the same command with ckpt_path={saved}" in printed(tmp_path / "stopped", 1)
    assert "a signal to another process: stopped after step 3" in printed(tmp_path / "stopped", 0)
    assert finish(processes(tmp_path / "stopped", options, (), world=2)) == [0, 0]
    for rank in range(2):
        assert record(tmp_path / "stopped", rank) == record(tmp_path / "whole", rank)


def test_ctrl_c_saves_and_ends_with_its_code(tmp_path):
    assert finish(processes(tmp_path / "run", ["trainer.max_steps=3"], [At(1, signalled(signal.SIGINT))])) == [130]
    assert "SIGINT: stopped after step 2" in printed(tmp_path / "run")
    assert (tmp_path / "run" / "run" / "checkpoints" / "step_000002.ckpt").is_file()


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A command that stands in for SLURM's, and notes in the file ``called`` beside it how it was called."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\necho "$@" > "$(dirname "$0")/called"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    return scontrol


def test_a_job_of_slurm_whose_time_is_up_is_queued_again_and_goes_on(tmp_path, scontrol, monkeypatch):
    """Keeping two checkpoints without moments beside the best one, the size of each in the log."""
    places = {"NTASKS": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "JOB_NAME": "train"}
    for name, value in places.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    options = ["trainer.max_steps=5", "checkpoint.keep_last=2", "checkpoint.save_optimizer=false"]
    assert finish(processes(tmp_path / "run", options, [At(2, signalled(signal.SIGUSR1))])) == [75]
    assert "SIGUSR1: stopped after step 3" in printed(tmp_path / "run")
    assert "SLURM job 71 is requeued" in printed(tmp_path / "run")
    assert (tmp_path / "called").read_text() == "requeue 71\n"
    assert finish(processes(tmp_path / "run", options)) == [0], printed(tmp_path / "run")
    assert [row["step"] for batch, row in record(tmp_path / "run").items() if batch != "end"] == [1, 2, 3, 4, 5]
    assert "the checkpoint has no optimizer state" in printed(tmp_path / "run")
    folder = tmp_path / "run" / "run" / "checkpoints"
    files = ["best_000004.ckpt", "last.ckpt", "step_000004.ckpt", "step_000005.ckpt"]
    assert sorted(os.listdir(folder)) == files
    assert torch.load(folder / "step_000005.ckpt", weights_only=True)["optimizer_states"] == []
    assert all(f"checkpoint {folder / name}: 0." in printed(tmp_path / "run") for name in files if name != "last.ckpt")


def test_a_job_of_an_array_is_queued_again_and_a_failure_is_told(tmp_path, scontrol, monkeypatch):
    assert requeue_job() == "SLURM job 71 is requeued"
    assert (tmp_path / "called").read_text() == "requeue 71\n"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    requeue_job()
    assert (tmp_path / "called").read_text() == "requeue 70_4\n"
    scontrol.write_text("#!/bin/sh\nexit 1\n")
    assert "could not be requeued" in requeue_job()


def test_an_unknown_signal_is_refused():
    with pytest.raises(BadValue, match="signals=SIGTREM: expected names of signals; did you mean 'SIGTERM'"):
        Preemption(["SIGTREM"])
    with pytest.raises(BadValue, match="patience=0"):
        SkipNonFinite(0)
    with pytest.raises(BadValue, match=r"timeout=0\.0"):
        Watchdog(0.0)


class NotFinite(L.Callback):
    """Makes the loss of some micro-batches of one process not finite."""

    def __init__(self, batches, rank=0, value=float("nan")):
        self.batches, self.rank, self.value = batches, rank, value

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        number = trainer.fit_loop.epoch_loop.total_batch_idx
        if number in self.batches and trainer.global_rank == self.rank:
            batch.clip.latents = batch.clip.latents * self.value


class State(L.Callback):
    """Writes what a skipped step must not change, after every batch."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        ema = next(c for c in trainer.callbacks if type(c).__name__ == "EMA")
        skipped = next(c for c in trainer.callbacks if isinstance(c, SkipNonFinite)).skipped
        errors = pl_module.objective.level_error
        state = {"averages": sum(float(v.double().sum()) for v in ema.average.values())}
        state |= {"weights": sum(float(p.detach().double().sum()) for p in pl_module.parameters())}
        state |= {"counts": errors.counts.tolist(), "totals": errors.totals.tolist(), "skipped": skipped}
        moments = [s["exp_avg"] for s in trainer.optimizers[0].state.values()]
        state |= {"step": trainer.global_step, "moments": sum(float(m.double().sum()) for m in moments)}
        with open(self.folder / f"state_{trainer.global_rank}.jsonl", "a") as file:
            file.write(json.dumps(state) + "\n")


def states(folder, rank=0):
    return [json.loads(line) for line in (folder / f"state_{rank}.jsonl").read_text().splitlines()]


def test_a_step_that_is_not_finite_in_one_process_is_skipped_in_both(tmp_path):
    """Steps of two micro-batches, (0, 1), (2, 3), (4, 5), ...: batch 4 is not finite."""
    folder = tmp_path / "run"
    options = ["trainer.accumulate_grad_batches=2", "trainer.max_steps=5"]
    extra = [NotFinite([4], rank=1), State(folder)]
    assert finish(processes(folder, options, extra, world=2)) == [0, 0], printed(folder)
    rows = states(folder)
    assert rows == states(folder, rank=1)
    before, after, later = rows[3], rows[5], rows[7]
    assert after["step"] == before["step"] + 1
    assert after.pop("skipped") == before.pop("skipped") + 1 == 1
    assert {**after, "step": 0} == {**before, "step": 0}
    assert all(later[name] != before[name] for name in ("weights", "averages", "counts", "totals", "moments"))
    assert all(torch.tensor(rows[-1]["totals"]).isfinite())
    key = record(folder, rank=1)[4]["keys"][0]
    assert f"step 3 is skipped (1 so far): not finite; its samples: {key}\n" in printed(folder)


def test_too_many_in_a_row_stop_the_run_naming_the_samples(tmp_path):
    options = ["trainer.max_steps=8", "callback.skip_non_finite.patience=2"]
    extra = [NotFinite([1, 3, 4], value=float("inf"))]
    folder = tmp_path / "run"
    assert finish(processes(folder, options, extra)) == [3]
    rows = record(folder)
    assert max(batch for batch in rows) == 3
    assert "not finite in 2 steps in a row, up to step 5; the samples of the last one: " in printed(folder)


def test_a_full_disk_ends_the_run_and_leaves_what_was_saved(tmp_path):
    real = torch.save

    def fill():
        full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
        torch.save = lambda checkpoint, file: real(checkpoint, full)

    assert finish(processes(tmp_path / "run", ["trainer.max_steps=4"], [At(2, fill)])) == [3]
    folder = tmp_path / "run" / "run" / "checkpoints"
    assert f"No space left on device; the last good one is {folder / 'step_000002.ckpt'}" in printed(tmp_path / "run")
    assert sorted(os.listdir(folder)) == ["last.ckpt", "step_000001.ckpt", "step_000002.ckpt"]


def test_whoever_waits_for_a_process_that_hangs_says_so_and_ends(hanging):
    folder, group, alone = hanging
    group[0].join(120)
    assert group[0].exitcode == 3, printed(folder / "group")
    assert finish(alone, 120) == [3]
    waiting = printed(folder / "group")
    assert "process 0 of 2 has waited" in waiting
    assert "s for another process, a checkpoint or the next batch, after step 3: " in waiting
    assert "process 0 of 1 has waited" in printed(folder / "alone")
    assert "in <lambda>" in printed(folder / "alone")
