"""Makes videos with a trained model: ``python -m interp_refiner.sample checkpoint=<run folder>``.

Alone it refines held-out clips of the run's own data. With ``storyboard=board.yaml output=out.mp4`` it makes the video
of a storyboard, also from an exported folder.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import DictConfig
from rich.console import Console
from tqdm import tqdm

from interp_refiner.assemble import Run, inference_overrides, load_run
from interp_refiner.config import Settings, main, nothing_left, run_metadata
from interp_refiner.core import BadValue, Corrupted
from interp_refiner.data.codec import write_mp4
from interp_refiner.evaluation import LABELS
from interp_refiner.evaluation.measures import keyframe_report, missing_frame_mse
from interp_refiner.storyboard import INDEX
from interp_refiner.storyboard.sampling import sample_storyboard


@dataclass
class SampleSettings(Settings):
    """Top-level values of ``conf/sample.yaml``.

    Attributes:
        checkpoint: a run folder, a checkpoint file inside one, or, with a storyboard, an exported folder.
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
    device = ("cuda" if torch.cuda.is_available() else "cpu") if cfg.device == "auto" else cfg.device
    if cfg.storyboard is not None:
        with nothing_left(Path(cfg.paths.output_dir), Path(cfg.paths.log_dir), only_looks=cfg.dry_run):
            sample_storyboard(cfg, device)
    elif cfg.output is not None or cfg.dry_run:
        raise BadValue("storyboard", None, "a YAML or JSON file with output and dry_run")
    else:
        sample_held_out(cfg, device)


def sample_held_out(cfg: DictConfig, device: str) -> None:
    """Writes truth, interpolation and refinement of held-out clips: mp4, contact sheet, and ``samples.json``."""
    if (Path(cfg.checkpoint).expanduser() / INDEX).is_file():
        raise BadValue("storyboard", None, "a YAML or JSON file: an exported folder has no held-out clips")
    run = load_run(cfg.checkpoint, overrides=inference_overrides(cfg))
    run.refiner.to(device)
    folder = Path(cfg.paths.output_dir)
    report = []
    for corrupted in tqdm(held_out(run, cfg.clips, cfg.level, device), total=cfg.clips, desc="clips"):
        report.append(refine_one(run, corrupted, folder, cfg.fps))
    text = {"checkpoint": str(run.checkpoint), "samples": report, **run_metadata()}
    (folder / "samples.json").write_text(json.dumps(text, indent=2) + "\n")
    console = Console(highlight=False)
    for row in report:
        console.print(f"{row['key']}: refined / interpolated error {row['ratio']:.3f}   {row['video']}", soft_wrap=True)


def held_out(run: Run, clips: int, level: int | None, device: str) -> Iterator[Corrupted]:
    """The first held-out clips at one level (None: the sparsest), one a batch, on ``device``."""
    run.data.val_samples = clips
    sparsest = run.refiner.corruption.num_levels(run.data.metadata.num_frames)
    if level is not None and not 1 <= level <= sparsest:
        raise BadValue("level", level, f"a level from 1 to {sparsest}, or null for the sparsest")
    for clip in run.data.val_dataloader():
        levels = clip.level.tolist() if clip.level is not None else []
        for row in [i for i, s in enumerate(levels) if s == (level or sparsest)]:
            corrupted = run.data.on_after_batch_transfer(clip.select([row]).to(device), 0)
            run.refiner.corruption.scheduled_sampling.check_shown(corrupted)
            yield corrupted


@torch.no_grad()
def refine_one(run: Run, corrupted: Corrupted, folder: Path, fps: float) -> dict[str, object]:
    """Refines one clip and writes its files; returns its line of the report."""
    key, level = corrupted.clip.keys[0], int(corrupted.level[0])
    refined = run.refiner.sample(corrupted)
    made = (v.float().cpu() for v in (corrupted.clean, corrupted.interpolation, refined))
    versions = dict(zip(LABELS, made, strict=True))
    prompt = corrupted.clip.prompts[0] if corrupted.clip.prompts else ""
    shown = versions, corrupted.known[0].cpu(), corrupted.clip.to("cpu"), f"{key}  level {level}  {prompt}".rstrip()
    run.data.medium.sheet(*shown).save(folder / f"{key}.png")
    video = write_mp4(folder / f"{key}.mp4", run.data.medium.film(*shown), fps)
    clean, missing = corrupted.clean, corrupted.missing
    interpolation_mse = float(missing_frame_mse(corrupted.interpolation, clean, missing))
    refined_mse = float(missing_frame_mse(refined, clean, missing))
    keyframes = keyframe_report(refined, corrupted.values, corrupted.known).records()[0]
    return {
        "key": key,
        "level": level,
        "prompt": prompt,
        "video": str(video),
        "interpolation_mse": interpolation_mse,
        "refined_mse": refined_mse,
        "ratio": refined_mse / interpolation_mse,
        "given_frames_exact": torch.equal(refined, corrupted.keep_given(refined)),
        "keyframes": keyframes,
    }


if __name__ == "__main__":
    sample()
