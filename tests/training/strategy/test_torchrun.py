"""The README's launch commands for several processes on one machine: torchrun, with a stop and a resume; submitit."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from interp_refiner.training.record import read_record

ROOT = Path(__file__).resolve().parents[3]
SIZE = [
    "backbone=wan_tiny",
    "backbone.size.num_layers=1",
    "backbone.size.num_attention_heads=1",
    "backbone.size.ffn_dim=32",
    "data.batch_size=1",
]
SHORT = ["data.writer.num_train=8", "data.writer.num_val=2", "data.val_samples=2", "trainer.val_check_interval=1000"]
QUIET = ["logger=none", "log_book=null", "callback.progress=null", "callback.validation_video=null"]
SMALL = ["+experiment=gt_keyframes", "trainer=cpu", *SIZE, *SHORT, *QUIET, "trainer.enable_progress_bar=false"]
LAUNCH = ["--nnodes=1", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
AGAIN = ["trainer.devices=2", "trainer.max_steps=400", "checkpoint.every_n_steps=20", "+resume=auto"]


def environment(folder):
    places = {"INTERP_REFINER_LOGS": folder / "logs", "INTERP_REFINER_CACHE": folder / "cache"}
    return {**os.environ, **{name: str(place) for name, place in places.items()}, "OMP_NUM_THREADS": "1"}


def start(folder, *overrides):
    """The program under torchrun; what it prints is in the file ``printed`` of the folder."""
    command = [sys.executable, "-m", "torch.distributed.run", *LAUNCH, "-m", "interp_refiner.train", *SMALL, *AGAIN]
    with open(folder / "printed", "w") as printed:
        return subprocess.Popen(
            [*command, *overrides], cwd=ROOT, env=environment(folder), stdout=printed, stderr=printed
        )


def children(process):
    """The numbers of a process's own, in the order in which they were started."""
    return [int(n) for n in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def until(condition, patience=120.0):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.soak
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
@pytest.mark.parametrize("to", ["process", "launcher"])
def test_a_run_of_torchrun_is_stopped_by_sigterm_and_goes_on_by_the_same_command(tmp_path, strategy, to):
    overrides = [f"strategy={strategy}", "paths.run_name=pod"]
    folder = tmp_path / "logs/train/runs/pod"
    launcher = start(tmp_path, *overrides)
    until(lambda: (folder / "checkpoints/last.ckpt").exists())
    os.kill(children(launcher)[-1] if to == "process" else launcher.pid, signal.SIGTERM)
    assert launcher.wait(120) == 1, "torchrun's own, whatever its processes end with"
    printed = (tmp_path / "printed").read_text()
    stopped = {int(step) for step in re.findall(r"stopped after step (\d+)", printed)}
    assert len(stopped) == 1, printed[-3000:]
    if to == "process":
        codes = set(re.findall(r"exitcode  : (-?\d+)", printed))
        assert "75" in codes
        assert codes <= {"75", "-15"}, "torchrun ends the other one, too, where that is still leaving"
    assert read_record(folder).status == "interrupted"
    assert start(tmp_path, *overrides).wait(240) == 0, (tmp_path / "printed").read_text()[-3000:]
    name = f"checkpoints/step_{stopped.pop():06d}.ckpt"
    assert f"Restored all states from the checkpoint at {folder / name}" in (tmp_path / "printed").read_text()
    record = read_record(folder)
    assert (record.status, record.steps, record.world_size) == ("finished", 400, 2)


@pytest.mark.soak
def test_a_sweep_trains_through_the_local_launcher_of_submitit(tmp_path):
    """One job each, in processes of their own."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    command = [sys.executable, "-m", "interp_refiner.train", "-m", "hydra/launcher=submitit_local", *SMALL]
    command += [f"hydra.sweep.dir={tmp_path / 'sweep'}", "hydra.launcher.timeout_min=5", "trainer.max_steps=3"]
    command += ["corruption.sigma=0.2,0.5"]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    records = [read_record(tmp_path / "sweep" / job) for job in "01"]
    assert [(record.status, record.steps) for record in records] == [("finished", 3)] * 2
    assert [record.settings["corruption.sigma"] for record in records] == [0.2, 0.5]
    assert all((tmp_path / "sweep" / job / "summary.json").is_file() for job in "01")
