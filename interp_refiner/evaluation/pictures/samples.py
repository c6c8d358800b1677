"""Writes refined held-out clips to files."""

import json
from pathlib import Path

import torch
from tqdm import tqdm

from interp_refiner.config import print_notes, run_metadata, terminal
from interp_refiner.core import Corrupted
from interp_refiner.data.codec import write_mp4
from interp_refiner.evaluation.measures import keyframe_report
from interp_refiner.evaluation.pictures.validation_video import LABELS
from interp_refiner.evaluation.run.held_out import held_out
from interp_refiner.evaluation.run.run import Run
from interp_refiner.training.missing_frame import missing_frame_mse


def write_samples(run: Run, clips: int, level: int | None, folder: Path, fps: float) -> None:
    """Writes truth, interpolation and refinement of held-out clips: mp4, contact sheet, and ``samples.json``.

    Args:
        run: the run, on its device.
        clips: number of clips.
        level: level of sparsity; None for the sparsest.
        folder: the output folder.
        fps: of the videos.
    """
    print_notes(run.sampler_notes())
    chosen = tqdm(held_out(run, clips, level), total=clips, desc="clips")
    report = [refine_one(run, corrupted, folder, fps) for corrupted in chosen]
    text = {"checkpoint": str(run.checkpoint), "samples": report, **run_metadata()}
    (folder / "samples.json").write_text(json.dumps(text, indent=2) + "\n")
    console = terminal()
    for row in report:
        console.print(f"{row['key']}: refined / interpolated error {row['ratio']:.3f}   {row['video']}", soft_wrap=True)


@torch.no_grad()
def refine_one(run: Run, corrupted: Corrupted, folder: Path, fps: float) -> dict[str, object]:
    """Refines one clip and writes its files; returns its entry for the report."""
    key, level = corrupted.clip.keys[0], int(corrupted.level[0])
    refined = run.refiner.sample(corrupted)
    made = (v.float().cpu() for v in (corrupted.clean, corrupted.interpolation, refined))
    versions = dict(zip(LABELS, made, strict=True))
    prompt = corrupted.clip.prompts[0] if corrupted.clip.prompts else ""
    shown = versions, corrupted.known[0].cpu(), corrupted.clip.to("cpu"), f"{key}  level {level}  {prompt}".rstrip()
    run.medium.sheet(*shown).save(folder / f"{key}.png")
    video = write_mp4(folder / f"{key}.mp4", run.medium.film(*shown), fps)
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
