"""Makes videos with a trained model: ``python -m interp_refiner.sample checkpoint=<run folder>``.

Alone it refines held-out clips of the run's own data. With ``storyboard=board.yaml output=out.mp4`` it makes the video
of a storyboard, also from an exported folder.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from interp_refiner.assemble import inference_overrides, load_pipeline, load_run
from interp_refiner.config import Settings, main, nothing_left
from interp_refiner.core import BadValue, device
from interp_refiner.evaluation.samples import write_samples
from interp_refiner.storyboard.sampling import sample_storyboard
from interp_refiner.training.checkpoint import is_exported, located


@dataclass
class SampleSettings(Settings):
    """Top-level values of ``conf/sample.yaml``.

    Attributes:
        checkpoint: a run folder, a checkpoint file inside one, or, with a storyboard, an exported one or ``shipped``.
        device: ``auto``, ``cpu`` or ``cuda``.
        storyboard: a YAML or JSON file; None for held-out clips.
        output: the mp4 of a storyboard.
        dry_run: prints the plan of a storyboard and writes nothing.
        also: what else is written of a storyboard: ``gif``, ``frames``, ``latents``.
        upscale: every pixel of a storyboard's mp4 and gif so many pixels wide and high.
        clips: how many held-out clips.
        level: of sparsity; None for the sparsest.
        overrides: values of the run's own config to replace.
        split: the folder of held-out clips below the data's root; None for the run's own.
        anchors: the folder of anchor shards; None for the run's own.
        fps: of held-out clips; a storyboard has its own.
    """

    checkpoint: str = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    storyboard: str | None = None
    output: str | None = None
    dry_run: bool = False
    also: list[str] = field(default_factory=list)
    upscale: int = 1
    clips: int = 4
    level: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    split: str | None = None
    anchors: str | None = None
    fps: float = 8.0


@main("sample", SampleSettings)
def sample(cfg: DictConfig) -> None:
    """Makes the video of a storyboard, or refines held-out clips."""
    place, folder = device(cfg.device), Path(cfg.paths.output_dir)
    if cfg.storyboard is not None:
        with nothing_left(folder, Path(cfg.paths.log_dir), only_looks=cfg.dry_run):
            sample_storyboard(cfg, lambda: load_pipeline(cfg.checkpoint, cfg).to(place))
    elif cfg.output is not None or cfg.dry_run:
        raise BadValue("storyboard", None, "a YAML or JSON file with output and dry_run")
    elif is_exported(located(cfg.checkpoint)):
        raise BadValue("storyboard", None, "a YAML or JSON file: an exported folder has no held-out clips")
    else:
        run = load_run(cfg.checkpoint, overrides=inference_overrides(cfg)).to(place)
        write_samples(run, cfg.clips, cfg.level, folder, cfg.fps)


if __name__ == "__main__":
    sample()
