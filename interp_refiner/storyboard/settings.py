"""Settings of the programs that make videos."""

from dataclasses import dataclass, field
from typing import Any, Literal

from interp_refiner.config import Settings


@dataclass
class KeyframesSettings(Settings):
    """Top-level values of ``conf/prepare/keyframes.yaml``, and what ``conf/sample.yaml`` has of them.

    Attributes:
        checkpoint: a run folder, a checkpoint file inside one, an exported one or ``shipped``: of the refiner.
        device: ``auto``, ``cpu`` or ``cuda``.
        storyboard: a YAML or JSON file of the video; None for a prompt.
        prompt: what the video shows, without a storyboard.
        keyframes: the generator of keyframes: its run, a file in it, an exported folder that has one, or ``shipped``.
        keyframes_at: times of the keyframes of a prompt; None for evenly spread ones.
        frames: pixel frames of the video of a prompt; None for those of the model's clips.
        output: what is written.
    """

    checkpoint: str = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    storyboard: str | None = None
    prompt: str | None = None
    keyframes: str | None = None
    keyframes_at: list[int | str] | None = None
    frames: int | None = None
    output: str | None = None


@dataclass
class SampleSettings(KeyframesSettings):
    """Top-level values of ``conf/sample.yaml``: those above, of a video, and more. Held-out clips without one.

    Attributes:
        dry_run: prints the plan of the video and writes nothing.
        also: what else is written of the video: ``gif``, ``frames``, ``latents``.
        upscale: every pixel of mp4 and gif so many pixels wide and high.
        clips: how many held-out clips.
        level: of sparsity; None for the sparsest.
        overrides: values of the run's own config to replace.
        split: the folder of held-out clips below the data's root; None for the run's own.
        anchors: the folder of anchor shards; None for the run's own.
        fps: of held-out clips; a storyboard has its own.
        inference: precision, offloading and more of a video, see :class:`Inference`.
    """

    dry_run: bool = False
    also: list[str] = field(default_factory=list)
    upscale: int = 1
    clips: int = 4
    level: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    split: str | None = None
    anchors: str | None = None
    fps: float = 8.0
    inference: dict[str, Any] = field(default_factory=dict)
