"""Settings of the programs that make videos."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import DictConfig

from interp_refiner.config import Settings

ASK_FOR_A_VIDEO = ("storyboard", "prompt", "keyframes", "keyframe_source")
OF_CLIPS = ("clips", "level", "overrides", "split", "anchors", "fps", "scheduled_sampling", "medium")
OF_VIDEOS = (
    "seed",
    "keyframes_at",
    "frames",
    "also",
    "upscale",
    "inference",
    "keyframe_sampler",
    "keyframe_choice",
    "text",
)


def asks_for_video(cfg: DictConfig) -> bool:
    """Whether ``sample`` makes a video of a storyboard or a prompt; else it refines held-out clips."""
    return any(cfg.get(name) is not None for name in ASK_FOR_A_VIDEO)


@dataclass
class KeyframesSettings(Settings):
    """Top-level values of ``conf/prepare/keyframes.yaml``, shared with ``conf/sample.yaml``.

    Attributes:
        checkpoint: the refiner: a run folder, a checkpoint file inside one, an exported folder or ``shipped``.
        device: ``auto``, ``cpu`` or ``cuda``.
        storyboard: a YAML or JSON file; None for a prompt.
        prompt: describes the video, without a storyboard.
        keyframes: the keyframe generator: its run, a file in it, an exported folder that has one, or ``shipped``.
        keyframes_at: times of the keyframes generated from a prompt; None for evenly spread ones.
        frames: pixel frames of the video of a prompt; None for those of the model's clips.
        output: the output path.
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
    """Top-level values of ``conf/sample.yaml``. Without storyboard and prompt, held-out clips are refined.

    Attributes:
        dry_run: whether to print the plan of the video and write nothing.
        also: additional files: ``gif``, ``frames``, ``latents``.
        upscale: enlargement factor of mp4 and gif; None: the shorter side gets at least 256 pixels.
        clips: number of held-out clips.
        level: level of sparsity of held-out clips; None for the sparsest.
        overrides: values that replace those of the run's own config.
        split: the folder of held-out clips below the data's root; None for the run's own.
        anchors: the folder of anchor shards; None for the run's own.
        fps: of held-out clips; a storyboard has its own.
        inference: precision, offloading and more, see :class:`Inference`.
    """

    dry_run: bool = False
    also: list[str] = field(default_factory=list)
    upscale: int | None = None
    clips: int = 4
    level: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    split: str | None = None
    anchors: str | None = None
    fps: float = 8.0
    inference: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def idle(cls, cfg: DictConfig) -> Mapping[str, str]:
        if asks_for_video(cfg):
            return dict.fromkeys(OF_CLIPS, "it is for held-out clips, not for the video of a storyboard or a prompt")
        return dict.fromkeys(OF_VIDEOS, "it is for the video of a storyboard or a prompt, not for held-out clips")
