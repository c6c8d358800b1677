"""The part of ``interp_refiner.sample`` that makes a video of a storyboard."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.table import Table

from interp_refiner.config import run_metadata, terminal, writable
from interp_refiner.core import BadValue, choice, save_tensors
from interp_refiner.data.codec import as_frames, gif_bytes, write_mp4
from interp_refiner.model.sampler import ClassifierFree
from interp_refiner.storyboard import (
    Keyframe,
    RefinerOutput,
    RefinerPipeline,
    Storyboard,
    VideoPlan,
    load_storyboard,
)
from interp_refiner.storyboard.cost import expected_cost
from interp_refiner.storyboard.report import joint_records, keyframe_records, storyboard_sheet
from interp_refiner.storyboard.storyboard import naming
from interp_refiner.storyboard.timeline import collisions, refuse_collisions
from interp_refiner.training.checkpoint import is_exported, located

CONTRACT = ("keyframe", "frame", "kind", "exact", "PSNR", "colour shift", "seam flicker")
EXTRAS = ("gif", "frames", "latents")
ALWAYS = ("video", "sheet", "report")
SUFFIXES = {
    "video": ".mp4",
    "gif": ".gif",
    "frames": ".frames",
    "latents": ".safetensors",
    "sheet": ".sheet.png",
    "report": ".report.json",
}
Timings = dict[str, float]


def sample_storyboard(cfg: DictConfig, load: Callable[[], RefinerPipeline]) -> None:
    """Makes the video of ``cfg.storyboard``, or prints its plan; nothing is written before everything is checked.

    Args:
        cfg: of ``interp_refiner.sample``.
        load: gives the pipeline on its device, once the storyboard and the output are right.

    Raises:
        BadValue: naming the entry of the storyboard, or the setting.
    """
    board = load_storyboard(cfg.storyboard)
    output = checked_output(cfg, board)
    seconds: Timings = {}
    with timed(seconds, "loading"):
        pipeline = load()
        pipeline.sampler.check(pipeline.corruption)
    with naming("storyboard"):
        keyframes, size, notes = read_board(pipeline, board, only_looks=cfg.dry_run)
        notes += unguided(board, pipeline)
        plan = pipeline.planner.plan(keyframes, **size, collide=cfg.dry_run)
        sound = board.sound([placed.frame / plan.fps for placed in plan.placed])
        if cfg.dry_run:
            show_plan(plan, keyframes, notes)
            refuse_collisions(plan.placed, keyframes)
            pipeline.embed([board.prompt, *(keyframe.prompt or "" for keyframe in keyframes)])
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
        write_mp4(output["video"], result.frames, plan.fps, cfg.upscale, sound=sound)
        write(cfg, pipeline, result, keyframes, board.prompt, output)
    files = [str(file) for name, file in output.items() if name != "report"]
    report |= {"files": files, "seconds": {name: round(value, 3) for name, value in seconds.items()}, **run_metadata()}
    output["report"].write_text(json.dumps(report, indent=2) + "\n")
    show_result(report, output["report"])


def read_board(
    pipeline: RefinerPipeline, board: Storyboard, only_looks: bool = False
) -> tuple[list[Keyframe], dict[str, Any], list[str]]:
    """The keyframes at the size of the video, length and size as the pipeline's arguments, and what had to be fitted.

    With ``only_looks`` the files are read, but no picture is kept: enough for a plan.

    Raises:
        BadValue: naming the entry or the setting.
    """
    planner = pipeline.planner
    height, width = planner.size(board.height, board.width)
    frames = planner.length(board.frames, board.seconds, board.fps)
    longest = frames + pipeline.codec.temporal_factor
    keyframes, fitted = board.read(width, height, board.fps or planner.fps, longest, only_looks)
    return keyframes, {"num_frames": frames, "height": height, "width": width, "fps": board.fps}, fitted


def checked_output(cfg: DictConfig, board: Storyboard) -> dict[str, Path]:
    """The files that will be written; none of them is one that the video is made of.

    Args:
        cfg: ``output`` names the mp4, the others are beside it; ``also`` says which of them are wanted.
        board: the storyboard.

    Raises:
        BadValue: another name than an mp4's, or none unless nothing will be written; a name that belongs to the
            storyboard, one of its files or an exported folder; a frames folder that holds files already; a folder that
            cannot be written to.
    """
    for extra in cfg.also:
        choice("also", extra, EXTRAS)
    if cfg.upscale < 1:
        raise BadValue("upscale", cfg.upscale, "at least 1")
    if cfg.output is None and not cfg.dry_run:
        raise BadValue("output", None, "the name of the video to write, such as out.mp4")
    output = Path(cfg.output or "out.mp4").expanduser()
    if output.suffix != ".mp4" or output.is_dir():
        raise BadValue("output", cfg.output, "a file name that ends in .mp4")
    if not cfg.dry_run:
        writable("output", output)
    files = {name: output.with_suffix(suffix) for name, suffix in SUFFIXES.items() if name in (*ALWAYS, *cfg.also)}
    folder = located(cfg.checkpoint)
    model = [file for file in folder.rglob("*") if file.is_file()] if is_exported(folder) else []
    sources = [Path(cfg.storyboard).expanduser(), *board.files, *model]
    read = {file.resolve() for file in sources}
    for file in files.values():
        if file.resolve() in read or any(file.exists() and file.samefile(other) for other in sources if other.exists()):
            raise BadValue("output", cfg.output, f"another name: {file} is read for this video, and would be replaced")
    if (frames := files.get("frames")) and frames.exists() and (not frames.is_dir() or any(frames.iterdir())):
        raise BadValue("output", cfg.output, f"another name: {frames} is there already, for also=frames")
    return files


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
    cfg: DictConfig,
    pipeline: RefinerPipeline,
    result: RefinerOutput,
    keyframes: list[Keyframe],
    prompt: str,
    output: dict[str, Path],
) -> None:
    """The contact sheet and the extras asked for."""
    video, fps, scale = result.frames, result.plan.fps, cfg.upscale
    if "gif" in output:
        output["gif"].write_bytes(gif_bytes(video, fps, scale))
    if "frames" in output:
        output["frames"].mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(as_frames(video).numpy()):
            Image.fromarray(frame).save(output["frames"] / f"{number:05d}.png")
    if "latents" in output:
        save_tensors({"latents": result.latents[0]}, output["latents"])
    interpolation = pipeline.decode(result.interpolation, like=result.latents)
    title = "   ".join(filter(None, [Path(cfg.storyboard).stem, pipeline.codec.caveat, prompt]))
    storyboard_sheet(result, keyframes, video, interpolation, title).save(output["sheet"])


def show_plan(plan: VideoPlan, keyframes: list[Keyframe], notes: list[str]) -> None:
    """Prints where every keyframe snaps to, what collides and what does not match."""
    console = terminal(wide=True)
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
    """Prints what the video will take, from one estimate and a few decoded frames that are timed now."""
    cost = expected_cost(pipeline, plan, keyframes)
    terminal(wide=True).print(
        f"about {cost.seconds:.1f} s on {pipeline.device}: {cost.refining:.1f} s for {cost.estimates} passes of the "
        f"network, {cost.decoding:.1f} s of decoding; and {cost.gigabytes:.1f} GB",
        soft_wrap=True,
    )


def show_result(report: dict[str, Any], file: Path) -> None:
    """Prints the keyframe contract and where everything is."""
    console = terminal(wide=True)
    table = Table(*CONTRACT, box=SIMPLE_HEAD)
    for row in report["keyframes"]:
        table.add_row(*contract_row(row))
    console.print(table)
    for joint in report["joints"]:
        console.print(f"joint at latent frames {joint['latent_frames']}: seam flicker {joint['seam_flicker']:.2f}")
    for note in report["notes"]:
        console.print(f"note: {note}", soft_wrap=True)
    for name in [*report["files"], file]:
        console.print(str(name), soft_wrap=True)


def contract_row(record: dict[str, Any]) -> list[str]:
    """A keyframe's record in words, in the columns of ``CONTRACT``."""
    numbers = (record.get("psnr"), record.get("colour_shift"), record.get("seam_flicker"))
    shown = ["" if value is None else f"{value:.3g}" for value in numbers]
    kind = "hard" if record["hard"] else f"strength {record['strength']:g}"
    return [record["name"], str(record["frame"]), kind, "yes" if record["exact"] else "no", *shown]


def span(numbers: range) -> str:
    """``5`` or ``5-8``."""
    return str(numbers.start) if len(numbers) == 1 else f"{numbers.start}-{numbers.stop - 1}"


@contextmanager
def timed(seconds: Timings, name: str) -> Iterator[None]:
    """Notes how long the block took."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
