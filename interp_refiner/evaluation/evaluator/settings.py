"""The top-level settings of ``interp_refiner.evaluate``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from interp_refiner.config import Settings, given, settings_of
from interp_refiner.config.nodes import dotted
from interp_refiner.core import BadValue
from interp_refiner.evaluation.run.run import Run

OF_GENERATORS = ("keyframe_quality", "keyframe_sampler", "keyframe_choice")
OF_REFINERS = (
    "sampler",
    "scheduled_sampling",
    "metric",
    "num_samples",
    "clips",
    "full",
    "scores_clips",
    "anchors",
    "batch_size",
    "device",
    "fps",
)


@dataclass
class EvaluateSettings(Settings):
    """Top-level values of ``conf/evaluate.yaml``.

    Attributes:
        checkpoint: a run folder, a checkpoint file in one, or (with ``data``) an export or ``shipped``; or several.
        overrides: values that replace those of the run's own config.
        split: the folder of held-out clips below the data's root; None for the run's own.
        anchors: the folder of anchor shards; None for the run's own.
        clips: number of held-out clips; None for a quick evaluation.
        full: whether to use all held-out clips.
        scores_clips: number of clips for measures other than squared error, which may need decoding; None for all.
        num_samples: samples per clip; with 2 or more of a stochastic sampler, energy score and spread are measured.
        batch_size: clips at a time.
        device: ``auto``, ``cpu`` or ``cuda``.
        fps: of the videos written.
    """

    checkpoint: list[str] | str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    split: str | None = None
    anchors: str | None = None
    clips: int | None = None
    full: bool = False
    scores_clips: int | None = None
    num_samples: int = 1
    batch_size: int = 32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    fps: float = 8.0


def inference_overrides(cfg: DictConfig) -> dict[str, Any]:
    """The overrides of a run's own config, for ``load_run``, from the config of a program that uses the run."""
    data = cfg.get("data")
    chosen = {
        # resolve references here: the run's own config may name a cache of another machine
        "data": data and OmegaConf.create(OmegaConf.to_container(data, resolve=True)),
        "sampler": cfg.get("sampler"),
        "codec": cfg.get("codec"),
        "medium": cfg.get("medium"),
        "corruption.scheduled_sampling": cfg.get("scheduled_sampling"),
        "data.anchors.root": cfg.get("anchors"),
        "data.val_split": cfg.get("split"),
    }
    return {key: value for key, value in chosen.items() if value is not None} | dotted(cfg.get("overrides"))


def generator_notes() -> list[str]:
    """A note for every setting on the command line that has no effect on a keyframe generator.

    They are not refused: the kind of a model is known late, and the evaluation after a training should not fail.
    """
    return _idle_notes("a keyframe generator", OF_REFINERS)


def refiner_notes(cfg: DictConfig, runs: Mapping[str, Run]) -> list[str]:
    """The same for refiners, and notes where a sampler differs from what they were trained for.

    Raises:
        BadValue: as :func:`check_anchors`.
    """
    check_anchors(cfg, *runs.values())
    of_samplers = dict.fromkeys(note for run in runs.values() for note in run.sampler_notes())
    return [*_idle_notes("a refiner", OF_GENERATORS), *of_samplers]


def check_anchors(cfg: DictConfig, *runs: Run) -> None:
    """Refuses, with :class:`BadValue`, a folder of anchors that no refiner's run reads."""
    if cfg.anchors is not None and not any(run.refiner.corruption.needs_anchors for run in runs):
        raise BadValue("anchors", cfg.anchors, "null, because keyframes are the truth (scheduled_sampling=phase1)")


def _idle_notes(kind: str, names: Sequence[str]) -> list[str]:
    typed = [text for text in given() if not text.startswith("--")]
    return [f"{text}: no effect, because checkpoint is {kind}" for text, _ in settings_of(typed, names)]
