"""The top-level settings of ``interp_refiner.evaluate``."""

from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from interp_refiner.config import Settings
from interp_refiner.config.nodes import dotted


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
