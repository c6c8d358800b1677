"""The part of ``interp_refiner.sample`` that makes a video of a storyboard."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from interp_refiner.codec import as_frames, gif_bytes, write_mp4
from interp_refiner.core import BadValue, choice
from interp_refiner.entry import run_metadata
from interp_refiner.export import load_pipeline
from interp_refiner.pipeline import Keyframe, RefinerOutput, RefinerPipeline, Storyboard, VideoPlan, load_storyboard
from interp_refiner.pipeline.cost import expected_cost
from interp_refiner.pipeline.report import joint_records, keyframe_records, storyboard_sheet
from interp_refiner.pipeline.storyboard import naming
from interp_refiner.pipeline.timeline import collisions, refuse_collisions
from interp_refiner.sampler import ClassifierFree

EXTRAS = ("gif", "frames", "latents")
Timings = dict[str, float]


def sample_storyboard(cfg: DictConfig, device: str) -> None:
    """Makes the video of ``cfg.storyboard``, or prints its plan; nothing is written before everything is checked.

    Raises:
        BadValue: naming the entry of the storyboard, or the setting.
    """
    board, output = load_storyboard(cfg.storyboard), checked_output(cfg)
    seconds: Timings = {}
    with timed(seconds, "loading"):
        pipeline = load_pipeline(cfg.checkpoint, cfg).to(device)
        pipeline.sampler.check(pipeline.corruption)
    with naming("storyboard"):
        height, width = pipeline.planner.size(board.height, board.width)
        keyframes, notes = board.read(width, height)
        notes += unguided(board, pipeline)
        frames = pipeline.planner.length(board.frames, board.seconds, board.fps)
        size: dict[str, Any] = {"num_frames": frames, "height": height, "width": width, "fps": board.fps}
        plan = pipeline.planner.plan(keyframes, **size, collide=cfg.dry_run)
        if cfg.dry_run:
            show_plan(plan, keyframes, notes)
            refuse_collisions(plan.placed, keyframes)
            show_cost(pipeline, plan, keyframes)
            return
        with timed(seconds, "refining and decoding"):
            size |= {"negative_prompt": board.negative_prompt, "generator": cfg.seed}
            result = pipeline(board.prompt, keyframes, **size, output_type="pt")
    report = {
        "storyboard": str(cfg.storyboard),
        "checkpoint": str(cfg.checkpoint),
        "settings": settings(cfg, board, pipeline, plan),
        "notes": [*notes, *plan.notes],
        "keyframes": keyframe_records(result, keyframes, result.frames),
        "joints": joint_records(result),
    }
    with timed(seconds, "writing"):
        files = write(cfg, pipeline, result, keyframes, output)
    report |= {"files": files, "seconds": {name: round(value, 3) for name, value in seconds.items()}, **run_metadata()}
    output.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    show_result(report, output)


def checked_output(cfg: DictConfig) -> Path:
    """The mp4 to write; refuses another name, or none unless nothing will be written."""
    for extra in cfg.also:
        choice("also", extra, EXTRAS)
    if cfg.output is None and not cfg.dry_run:
        raise BadValue("output", None, "the name of the video to write, such as out.mp4")
    output = Path(cfg.output or "out.mp4").expanduser()
    if output.suffix != ".mp4" or output.is_dir():
        raise BadValue("output", cfg.output, "a file name that ends in .mp4")
    return output


def unguided(board: Storyboard, pipeline: RefinerPipeline) -> list[str]:
    """A line for a negative prompt that nothing leads away from."""
    if not board.negative_prompt or isinstance(pipeline.sampler.guidance, ClassifierFree):
        return []
    return ["negative_prompt has no effect without guidance: sampler=<name> sampler/guidance=classifier_free"]


def settings(cfg: DictConfig, board: Storyboard, pipeline: RefinerPipeline, plan: VideoPlan) -> dict[str, Any]:
    """What decides the video, beside the weights and the pictures."""
    factor = pipeline.codec.spatial_factor
    return {
        "seed": cfg.seed,
        "sampler": type(pipeline.sampler).__name__,
        "guidance": repr(pipeline.sampler.guidance),
        **{name: value for name, value in vars(pipeline.sampler).items() if isinstance(value, int | float)},
        "width": plan.latent_shape[3] * factor,
        "height": plan.latent_shape[2] * factor,
        "frames": plan.grid.num_frames,
        "fps": plan.fps,
        "prompt": board.prompt,
        "negative_prompt": board.negative_prompt,
        "latent_shape": list(plan.latent_shape),
        "level": plan.level,
        "windows": [asdict(part) for part in plan.parts],
        "device": str(pipeline.device),
    }


def write(
    cfg: DictConfig, pipeline: RefinerPipeline, result: RefinerOutput, keyframes: list[Keyframe], output: Path
) -> list[str]:
    """The video, its contact sheet, and the extras asked for; returns the names of the files."""
    video, fps, scale = result.frames, result.plan.fps, cfg.upscale
    files = [write_mp4(output, video, fps, scale)]
    if "gif" in cfg.also:
        files.append(output.with_suffix(".gif"))
        files[-1].write_bytes(gif_bytes(video, fps, scale))
    if "frames" in cfg.also:
        from PIL import Image

        folder = output.with_suffix("")
        folder.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(as_frames(video).numpy()):
            Image.fromarray(frame).save(folder / f"{number:05d}.png")
        files.append(folder)
    if "latents" in cfg.also:
        files.append(output.with_suffix(".safetensors"))
        save_file({"latents": result.latents[0].cpu().contiguous()}, files[-1])
    with torch.no_grad():
        interpolation = pipeline.codec.fitted_to(result.latents).decode(result.interpolation)[0].float().cpu()
    files.append(output.with_suffix(".png"))
    title = "  ".join(filter(None, [Path(cfg.storyboard).stem, pipeline.codec.caveat]))
    storyboard_sheet(result, keyframes, video, interpolation, title).save(files[-1])
    return [str(file) for file in files]


def show_plan(plan: VideoPlan, keyframes: list[Keyframe], notes: list[str]) -> None:
    """Prints where every keyframe snaps to, what collides and what does not match."""
    console = wide_console()
    c, t, y, x = plan.latent_shape
    console.print(
        f"{plan.grid.num_frames} frames at {plan.fps:g} a second, latents {c} x {t} x {y} x {x}, level {plan.level}"
    )
    taken = {second.index: first.index for first, second in collisions(plan.placed)}
    table = Table("keyframe", "file", "time", "frame", "latent frames", "pixel frames", "kind", "", box=SIMPLE_HEAD)
    for p in sorted(plan.placed, key=lambda placed: (placed.slots.start, placed.index)):
        keyframe = keyframes[p.index]
        kind = "hard" if keyframe.given else f"strength {keyframe.strength:g}"
        collision = f"collides with keyframe {taken[p.index]}" if p.index in taken else ""
        table.add_row(
            str(p.index), keyframe.name, str(keyframe.time), str(p.frame), span(p.slots), span(p.shown), kind, collision
        )
    console.print(table)
    for index, part in enumerate(plan.parts):
        console.print(f"window {index}: latent frames {span(range(part.start, part.stop))}")
    for note in [*notes, *plan.notes]:
        console.print(f"note: {note}", soft_wrap=True)


def show_cost(pipeline: RefinerPipeline, plan: VideoPlan, keyframes: list[Keyframe]) -> None:
    """Prints what sampling will take, from one estimate that is timed now."""
    cost = expected_cost(pipeline, plan, keyframes)
    wide_console().print(
        f"about {cost.seconds:.1f} s for {cost.estimates} passes of the network on {pipeline.device}, "
        f"and {cost.gigabytes:.1f} GB",
        soft_wrap=True,
    )


def show_result(report: dict[str, Any], output: Path) -> None:
    """Prints the keyframe contract and where everything is."""
    console = wide_console()
    table = Table("keyframe", "frame", "kind", "exact", "PSNR", "colour shift", "seam flicker", box=SIMPLE_HEAD)
    for row in report["keyframes"]:
        numbers = (row.get("psnr"), row.get("colour_shift"), row.get("seam_flicker"))
        shown = ["" if value is None else f"{value:.3g}" for value in numbers]
        kind = "hard" if row["hard"] else f"strength {row['strength']:g}"
        table.add_row(row["name"], str(row["frame"]), kind, "yes" if row["exact"] else "no", *shown)
    console.print(table)
    for joint in report["joints"]:
        console.print(f"joint at latent frames {joint['latent_frames']}: seam flicker {joint['seam_flicker']:.2f}")
    for name in [*report["files"], output.with_suffix(".json")]:
        console.print(str(name), soft_wrap=True)


def wide_console() -> Console:
    """Tables fold at a terminal's width, and nowhere in a file or a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def span(numbers: range) -> str:
    """``5`` or ``5-8``."""
    return str(numbers.start) if len(numbers) == 1 else f"{numbers.start}-{numbers.stop - 1}"


@contextmanager
def timed(seconds: Timings, name: str) -> Iterator[None]:
    """Notes how long the block took."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
