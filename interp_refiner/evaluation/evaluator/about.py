"""Checks an evaluation's settings before it starts, and describes it."""

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from interp_refiner.config import run_metadata
from interp_refiner.config.nodes import dotted
from interp_refiner.core import BadValue, device
from interp_refiner.data.shards.remote import is_url
from interp_refiner.evaluation.evaluator.methods import config_name
from interp_refiner.evaluation.evaluator.replaced import ReplacedKeyframes
from interp_refiner.evaluation.run.run import Run
from interp_refiner.forward.scheduled_sampling import Replacing
from interp_refiner.training.checkpoint import find_checkpoint, is_exported, located, read_config


def check(cfg: DictConfig, checkpoint: str) -> None:
    """Refuses wrong settings before anything is loaded."""
    if cfg.batch_size < 2:
        raise BadValue("batch_size", cfg.batch_size, "at least 2: keyframes are shuffled among the clips of a batch")
    if not 0 < cfg.fps < inf:
        raise BadValue("fps", cfg.fps, "a finite number > 0")
    if cfg.clips is not None and cfg.clips < 2:
        raise BadValue("clips", cfg.clips, "at least 2 held-out clips, or null")
    device(cfg.device)
    data = cfg.get("data") or own_data(checkpoint)
    place = dotted(cfg.overrides).get("data.root", data.root)
    root = Path(place).expanduser()
    if cfg.split is None or cfg.split == data.get("val_split", "val") or is_url(place) or (root / cfg.split).is_dir():
        return
    splits = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    raise BadValue("split", cfg.split, f"a folder below {root}: {' | '.join(splits) or 'there is none'}", splits)


def own_data(checkpoint: str) -> DictConfig:
    """The node of a run's own clips; raises :class:`BadValue` for an exported folder, which has none."""
    place = located(checkpoint)
    if is_exported(place):
        raise BadValue("data", None, f"a data set such as data=moving_shapes: the exported folder {place} has none")
    return read_config(find_checkpoint(place)[0], {}).data


def describe(cfg: DictConfig, runs: Mapping[str, Run], clips: int, replaced: ReplacedKeyframes) -> dict[str, Any]:
    """Describes the data and the settings of an evaluation; for several runs, those of the first."""
    run = next(iter(runs.values()))
    sampler = run.refiner.sampler
    several = ", ".join(f"{label}: {other.checkpoint}" for label, other in runs.items()) if len(runs) > 1 else None
    metadata, corruption = run_metadata(), run.refiner.corruption
    replacing, schedule = corruption.scheduled_sampling, corruption.schedule
    how = f"{config_name(replacing)}, p={replacing.probability(None)}" if isinstance(replacing, Replacing) else None
    facts = {
        "checkpoint": None if several else str(run.checkpoint),
        "checkpoints": several,
        "experiment": run.config.experiment_name,
        "data": f"{run.data.source.root}/{run.data.source.val_split}",
        "clips": clips,
        "clips decoded": min(clips, cfg.scores_clips or clips),
        "sampler": ", ".join([config_name(sampler), *(f"{name}={value}" for name, value in vars(sampler).items())]),
        "keyframes chosen by": f"{config_name(schedule)}, which sees {schedule.sees}",
        "keyframes replaced": how and f"{how}: {replaced}",
        "samples per clip": cfg.num_samples,
        "intervals": "95%, paired bootstrap over clips (Frechet distance: jackknife)",
        "command": metadata["command"],
        "commit": metadata["git_commit"] and metadata["git_commit"] + " with changes" * metadata["git_dirty"],
        "versions": ", ".join(f"{name} {version}" for name, version in metadata["versions"].items()),
        "device": metadata["device"],
    }
    return {name: value for name, value in facts.items() if value is not None}
