"""The whole program as users run it: train, resume, sample, two processes."""

import json
import logging
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from runpy import run_module

import pytest
import torch

from interp_refiner.assemble import load_run
from interp_refiner.core import AVERAGED
from interp_refiner.training.checkpoint import find_checkpoint

SHORT = [
    "+experiment=toy_video",
    "data.writer.num_train=16",
    "data.writer.num_val=8",
    "trainer.log_every_n_steps=2",
    "trainer.max_steps=6",
    "trainer.val_check_interval=3",
    "data.val_samples=4",
    "callback.validation_video.clips=2",
]
FIGURES = {"interpolation_mse", "refined_mse", "ratio", "improved_share"}


def places(folder: Path) -> dict[str, str]:
    return {f"INTERP_REFINER_{name}": str(folder / name.lower()) for name in ("CACHE", "LOGS", "DATA")}


def run(command: list[str], folder: Path) -> str:
    """Runs a command of the project with everything it writes below ``folder``; returns what it printed."""
    environment = {**os.environ, **places(folder), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def train(folder: Path, *overrides: str) -> tuple[Path, str]:
    """Trains; returns the run folder and what was printed."""
    printed = run([sys.executable, "-m", "interp_refiner.train", *SHORT, *overrides], folder)
    return summarised(printed), printed


def summarised(printed: str) -> Path:
    """The run folder that a program names at its end."""
    return Path(re.search(r"^summary +(.+)/summary\.json$", printed, re.MULTILINE).group(1))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("a program")


@pytest.fixture(scope="module")
def trained(place):
    """In this process, as its command line would."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
        for name, value in places(place).items():
            patch.setenv(name, value)
        patch.chdir(place)
        patch.setattr(sys, "argv", ["train", *SHORT])
        logging.root.handlers.clear()  # Hydra's last handlers write to the stdout of the test before
        run_module("interp_refiner.train", run_name="__main__")
    logging.root.handlers.clear()
    return summarised(out.getvalue()), out.getvalue()


def test_the_summary_says_what_was_run_and_what_came_out(trained):
    folder, _ = trained
    summary = json.loads((folder / "summary.json").read_text())
    for group in ("level_1", "level_2", "level_3", "level_4", "mean"):
        assert {name.rsplit("/", 1)[1] for name in summary if name.startswith(f"val/{group}/")} >= FIGURES
        ratio = summary[f"val/{group}/refined_mse"] / summary[f"val/{group}/interpolation_mse"]
        assert summary[f"val/{group}/ratio"] == pytest.approx(ratio, rel=1e-5)
    assert summary["steps"] == 6
    assert summary["experiment"] == "toy_video"
    assert summary["parameters"] > 10_000
    assert summary["samples_per_second"] > 0
    throughput = summary["throughput"]
    assert throughput["latent_frames_per_s"] == pytest.approx(21 * throughput["samples_per_s"])
    assert throughput["tokens_per_s"] > throughput["latent_frames_per_s"]
    assert throughput["tflops_per_s"] > 0
    assert throughput["peak_memory_gb"] > 0
    assert 0 <= summary["data_wait_share"] < 1
    assert {"command", "git_commit", "versions", "device"} <= set(summary)


def test_the_run_folder_holds_pictures_logs_and_checkpoints(trained):
    folder, _ = trained
    assert (folder / "samples" / "step_000006.png").stat().st_size > 10_000
    assert (folder / "samples" / "step_000006.mp4").stat().st_size > 5_000
    assert (folder / "config.yaml").is_file()
    assert list((folder / "tensorboard").glob("events.*"))
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    assert checkpoint["global_step"] == 6
    raw, average = checkpoint["state_dict"], checkpoint[AVERAGED]
    assert all(value.dtype == torch.float32 for value in average.values())
    assert any(not torch.equal(raw[name], value) for name, value in average.items())


def test_tensorboard_holds_scalars_and_animated_pictures(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = trained
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0}).Reload()
    scalars, images = events.Tags()["scalars"], events.Tags()["images"]
    assert {"train/loss", "val/level_4/ratio", "val/mean/ratio"} <= set(scalars)
    assert images
    assert events.Images(images[0])[0].encoded_image_string.startswith(b"GIF8")


def test_what_is_shown_while_training(trained):
    _, printed = trained
    assert "held-out clips after 3 steps" in printed
    assert re.search(r"  4 \│ +[\d.]+ \│ +[\d.]+ \│ +[\d.]+ \│", printed)
    assert "sigma: 0.3" not in printed  # the config tree
    assert re.search(r"^training    Refiner, [\d,]+ parameters", printed, re.MULTILINE)
    assert "GPU available" not in printed
    table = printed.rpartition("all held-out clips, missing frames")[2]
    assert printed.count("all held-out clips") == 1
    assert printed.index("next:") < len(printed) - len(table)  # the figures stand last
    assert "mean" in table


def test_the_next_commands_work_as_printed(trained, place, program, monkeypatch):
    """In this process, as their command lines would."""
    monkeypatch.chdir(place)
    for name, value in places(place).items():
        monkeypatch.setenv(name, value)

    def here(python, flag, module, *arguments):
        done = program(module.removeprefix("interp_refiner."), *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    _, printed = trained
    commands = [shlex.split(line) for line in re.findall(r"^  (\S*python\S* -m .+)$", printed, re.MULTILINE)]
    sample = next(command for command in commands if command[2] == "interp_refiner.sample")
    resume = next(command for command in commands if command[2] == "interp_refiner.train")
    shown = here(*sample, "clips=2")
    report = json.loads(next(iter((place / "logs").glob("sample/runs/*/samples.json"))).read_text())
    assert len(report["samples"]) == 2
    assert all(row["given_frames_exact"] and Path(row["video"]).is_file() for row in report["samples"])
    assert "refined / interpolated error" in shown
    longer = summarised(here(*resume, "callback.validation_video=null"))  # whose pictures take most of the time
    assert json.loads((longer / "summary.json").read_text())["steps"] == 12


def test_load_run_gives_the_averaged_or_the_raw_weights(trained):
    folder, _ = trained
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    name = "backbone.wan.proj_out.weight"
    averaged = dict(load_run(folder).refiner.named_parameters())[name]
    raw = dict(load_run(find_checkpoint(folder)[1], ema=False).refiner.named_parameters())[name]
    assert torch.equal(averaged, checkpoint[AVERAGED][name])
    assert torch.equal(raw, checkpoint["state_dict"][name])
    assert not torch.equal(averaged, raw)


@pytest.mark.soak  # beside tests/training/strategy/test_parity.py, through Lightning's own launcher
def test_two_processes_train_as_one_on_the_same_global_batch(place, trained):
    one, _ = trained
    two, _ = train(place, "strategy=ddp", "trainer=cpu", "trainer.devices=2", "data.batch_size=4")
    weights = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for f in (one, two)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=2e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
    summaries = [json.loads((f / "summary.json").read_text()) for f in (one, two)]
    for level in range(1, 5):
        key = f"val/level_{level}/interpolation_mse"
        assert summaries[0][key] == pytest.approx(summaries[1][key], rel=1e-6)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"checkpoint=.*expected a run folder with config\.yaml"):
        find_checkpoint(tmp_path)
