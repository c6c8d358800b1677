"""The values that ``interp_refiner.evaluate`` takes at the top of its config."""

from dataclasses import dataclass, field
from typing import Any, Literal

from interp_refiner.config import Settings


@dataclass
class EvaluateSettings(Settings):
    """Top-level values of ``conf/evaluate.yaml``.

    Attributes:
        checkpoint: a run folder, a checkpoint file in one, or, with ``data``, an export or ``shipped``; or several.
        overrides: values of the run's own config to replace.
        split: the folder of held-out clips below the data's root; None for the run's own.
        anchors: the folder of anchor shards; None for the run's own.
        clips: how many held-out clips; None for a quick look.
        full: all held-out clips.
        scores_clips: how many of them are measured beyond squared error, which may need decoding; None for all.
        num_samples: samples a clip; with 2 or more of a stochastic sampler their energy score and spread are measured.
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
