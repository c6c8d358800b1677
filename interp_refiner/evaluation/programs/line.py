"""Runs the programs one after another on tiny data, and checks the output of each."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from omegaconf import DictConfig

from interp_refiner.config import assigned, call, settings_of
from interp_refiner.core import Stopped
from interp_refiner.evaluation.records.records import Evaluation
from interp_refiner.training.record import read_record
from interp_refiner.training.settings import OF_BACKBONES, OF_REFINERS

Step: TypeAlias = Callable[[Path, list[str]], None]


def tiny(cfg: DictConfig) -> list[str]:
    """Overrides for data and sizes with which training takes seconds."""
    sizes = {"num_train": cfg.clips, "num_val": max(4, cfg.clips // 8)}
    data = [
        assigned("data.root", f"{cfg.paths.output_dir}/data"),
        *(f"data.writer.{name}={n}" for name, n in sizes.items()),
    ]
    length = [f"trainer.max_steps={cfg.steps}", f"trainer.val_check_interval={cfg.steps}", "data.val_samples=4"]
    quiet = ["log_book=null", "callback.progress=null", "trainer.enable_model_summary=false", f"seed={cfg.seed}"]
    return ["data=small_shapes", *data, *length, *quiet, "backbone.size.num_layers=2", "trainer.detect_anomaly=true"]


def train_interpolator(folder: Path, overrides: list[str]) -> None:
    """``+experiment=flow_warp``."""
    _train(folder / "interpolator", "+experiment=flow_warp", *without(overrides, *OF_REFINERS, *OF_BACKBONES))


def train_refiner(folder: Path, overrides: list[str]) -> None:
    """``+experiment=gt_keyframes`` with the interpolator trained before."""
    learned = ["interpolator=flow_warp_pixels", assigned("interpolator.checkpoint", folder / "interpolator")]
    _train(folder / "refiner", "+experiment=gt_keyframes", *learned, *overrides)


def train_generator(folder: Path, overrides: list[str]) -> None:
    """``+experiment=keyframes``."""
    _train(folder / "generator", "+experiment=keyframes", *without(overrides, *OF_REFINERS))


def make_anchors(folder: Path, overrides: list[str]) -> None:
    """``interp_refiner.prepare anchors`` with the generator trained before."""
    data = [override for override in overrides if override.startswith("data")]
    source = ["anchor_source=generator", assigned("checkpoint", folder / "generator"), "anchor_source.sampler.steps=2"]
    call("prepare/anchors", folder / "preparing", *data, *source, assigned("data.anchors.root", folder / "anchors"))
    require(any((folder / "anchors").glob("*/dataset.json")), f"{folder}/anchors holds no anchors")


def train_on_proposals(folder: Path, overrides: list[str]) -> None:
    """``+experiment=phase1_keyframes`` on these anchors."""
    found = [assigned("data.anchors.root", folder / "anchors"), "data.anchors.source=null"]
    shown = "scheduled_sampling.uncovered=truth"
    _train(folder / "corrector", "+experiment=phase1_keyframes", *found, shown, *overrides)


def text_to_video(folder: Path, _: list[str]) -> None:
    """``interp_refiner.sample`` of a prompt, with the generator and the refiner trained before."""
    models = [
        assigned("checkpoint", folder / "corrector"),
        assigned("keyframes", folder / "generator"),
        "keyframe_sampler.steps=2",
    ]
    output = folder / "text" / "out.mp4"
    call("sample", folder / "text", *models, "prompt=bright circle moving right", assigned("output", output))
    rows = json.loads(output.with_suffix(".report.json").read_text())["keyframes"]
    require(bool(rows) and all(row["generated"] for row in rows), "no keyframe was generated")


def without(overrides: list[str], *parts: str) -> list[str]:
    """The overrides that set none of these parts, which a training does not have."""
    left_out = {text for text, _ in settings_of(overrides, parts)}
    return [text for text in overrides if text not in left_out]


def _train(run: Path, *overrides: str) -> None:
    call("train", run, *overrides)
    record = read_record(run)
    require(record is not None and record.status == "finished", f"{run}: the run has not finished")
    metrics = record.metrics if record else {}
    wrong = [name for name, value in metrics.items() if value is None or not math.isfinite(value)]  # None: not finite
    require(not wrong, f"{run}: not finite: {', '.join(wrong)}")


def evaluate(folder: Path, _: list[str]) -> None:
    """``interp_refiner.evaluate`` on the held-out clips."""
    call("evaluate", folder / "evaluation", assigned("checkpoint", folder / "refiner"), "batch_size=4")
    found = Evaluation.load(folder / "evaluation" / "evaluation.json")
    require(bool(found.records), f"{folder}/evaluation/evaluation.json holds no figures")


def sample(folder: Path, _: list[str]) -> None:
    """``interp_refiner.sample`` of two held-out clips; their keyframes must be exact."""
    call("sample", folder / "samples", assigned("checkpoint", folder / "refiner"), "clips=2")
    rows = json.loads((folder / "samples" / "samples.json").read_text())["samples"]
    require(len(rows) == 2 and all(row["given_frames_exact"] for row in rows), "a given frame has been changed")


def report(folder: Path, _: list[str]) -> None:
    """``interp_refiner.report`` of the refiner's run."""
    call("report", folder / "report", assigned("runs", [folder / "refiner"]))
    require((folder / "report" / "report.html").stat().st_size > 0, "the report is empty")


def require(holds: bool, otherwise: str) -> None:
    """Raises an error if a condition, which the programs do not check, does not hold."""
    if not holds:
        raise Stopped(otherwise)


LINE: dict[str, Step] = {
    "train the interpolator": train_interpolator,
    "train the refiner": train_refiner,
    "evaluate": evaluate,
    "sample": sample,
    "train the keyframe generator": train_generator,
    "make anchors": make_anchors,
    "train a refiner of proposals": train_on_proposals,
    "make a video of a prompt": text_to_video,
    "report": report,
}
