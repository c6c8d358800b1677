"""Run folders with known numbers, as training and evaluation leave them."""

import json
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image

from interp_refiner.data.codec import side_by_side, write_mp4
from interp_refiner.evaluation import Evaluation
from interp_refiner.evaluation.measures import Frechet, Realism, Record, SquaredError
from interp_refiner.training.record import RunRecord, write_record

ROLES = {"one_jump": "estimate", "linear": "baseline", "truth": "control"}
LEVELS = (1, 2)


def make_run(
    folder: Path,
    overrides: dict[str, object],
    *,
    status: str = "finished",
    ratio: float | None = None,
    frechet: float = 0.5,
    half: float = 0.01,
    seconds_left: int = 0,
    **record: object,
) -> Path:
    """A run; with a ``ratio`` it has figures: ``ratio`` at level 2 and 0.9 of that at level 1.

    Args:
        folder: of the run.
        overrides: by key; keys without a dot are options of groups.
        status: of the record.
        ratio: MSE relative to linear at level 2; None for a run without a validation.
        frechet: relative to linear's.
        half: half the width of every interval; 0 for a run that was validated and not evaluated.
        seconds_left: unused steps: the run stopped so many before 100.
        record: other fields of the record.
    """
    groups = {key: str(value) for key, value in overrides.items() if "." not in key}
    config = OmegaConf.create({"seed": 0, "trainer": {"max_steps": 100}})
    for key, value in overrides.items():
        if "." in key:
            OmegaConf.update(config, key, value)
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(config, folder / "config.yaml")
    choices = {"interpolator": "linear", **groups}
    hydra = {"hydra": {"job": {"name": "train"}, "runtime": {"choices": choices}}}
    OmegaConf.save(OmegaConf.create(hydra), folder / ".hydra" / "hydra.yaml")
    metrics = {}
    if ratio is not None:
        metrics = {f"val/level_{s}/ratio": value for s, value in zip(LEVELS, (0.9 * ratio, ratio), strict=True)}
        metrics |= {f"val/level_{s}/improved_share": 0.75 for s in LEVELS}
    given = [f"{key}={value}" for key, value in overrides.items()]
    steps = 100 - seconds_left
    told = {"steps": steps if status == "finished" else 0, "samples_per_second": 20.0, "git_commit": "0123456789"}
    write_record(folder, RunRecord("hash", "sweep", status, overrides=given, metrics=metrics, **(told | record)))
    log_curves(folder, steps)
    if ratio is not None and half > 0:
        evaluate(folder / "evaluation", ratio, frechet, half)
    return folder


def log_curves(folder: Path, steps: int) -> None:
    """The CSV logger's table: a loss that halves, a validation in the middle."""
    rows = ["epoch,step,train/loss,val/mean/ratio"]
    rows += [f"0,{step},{2.0 ** (-step / 50)}," for step in range(9, steps, 10)] + ["0,49,,0.85"]
    (folder / "csv").mkdir()
    (folder / "csv" / "metrics.csv").write_text("\n".join(rows) + "\n")


def evaluate(folder: Path, ratio: float, frechet: float, half: float) -> None:
    """What ``interp_refiner.evaluate`` writes, as far as a report reads it."""
    measures = [m for one in (SquaredError, Frechet, Realism) for measure in one.measures for m in measure.family]
    records = []
    for level, error in zip(LEVELS, (0.9 * ratio, ratio), strict=True):
        figures = {"mse_ratio": (error, half), "mse_better": (0.8, 0.05), "frechet_ratio": (frechet, 0.05)}
        figures |= {"boundary_motion": (0.7, 0.1), "inside_motion": (0.7, 0.1)}
        for name, (value, by) in figures.items():
            against = None if name.endswith("motion") else "linear"
            records.append(Record(name, "one_jump", value, value - by, value + by, against, level=level))
    folder.mkdir()
    Evaluation({"clips": 8}, ROLES, measures=measures, records=records).save(folder / "evaluation.json")


def add_clips(run: Path, videos: tuple[str, ...] = ("truth", "linear", "one_jump")) -> None:
    """The best and the worst clip of an evaluation, each video of a grey of its own."""
    told = {}
    for name, value in (("best", 0.5), ("worst", 1.5)):
        panels = [torch.full((3, 5, 16, 24), (i + 1) / 8) for i in range(len(videos))]
        frames = side_by_side(panels, videos, title="a title that is wider than the three videos would ever be " * 3)
        write_mp4(run / "evaluation" / f"{name}.mp4", frames, fps=4.0)
        told[name] = {"key": f"<{name}&1>", "level": 2, "ratio": value, "videos": videos, "frame_size": [16, 24]}
    (run / "evaluation" / "clips.json").write_text(json.dumps(told))
    Image.fromarray(np.arange(120, dtype=np.uint8).reshape(10, 12)).save(run / "evaluation" / "clips.png")


def sigma_sweep(folder: Path) -> Path:
    """Jobs 0 to 7: none, dist and gauss at two sigmas; one is a duplicate, one running, one failed."""
    jobs = [("none", 0.1, 0.82), ("dist", 0.1, 0.80), ("dist", 0.3, 0.75), ("gauss", 0.1, 0.81), ("gauss", 0.3, 0.755)]
    for number, (corruption, sigma, ratio) in enumerate(jobs):
        make_run(
            folder / str(number),
            {"corruption": corruption, "corruption.sigma": sigma},
            ratio=ratio,
            frechet=0.9 - (sigma if corruption != "none" else 0.0),
        )
    same = {"corruption": "none", "corruption.sigma": 0.3}
    make_run(folder / "5", same, status="duplicate", duplicate_of="../0")
    late = {"corruption": "gauss", "corruption.sigma": 0.5}
    make_run(folder / "6", late, status="running", seconds_left=60)
    lost = {"corruption": "dist", "corruption.sigma": 0.5}
    make_run(folder / "7", lost, status="failed", error="the disk is full <b>")
    (folder / "multirun.yaml").write_text("hydra: {}\n")
    return folder
