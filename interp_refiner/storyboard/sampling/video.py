"""The part of ``interp_refiner.sample`` that makes a video of a storyboard."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from PIL import Image

from interp_refiner.config import run_metadata, writable
from interp_refiner.core import BadValue, choice, forget_peak_memory, peak_memory, save_tensors
from interp_refiner.data.codec import as_frames, gif_bytes, legible_scale, write_mp4
from interp_refiner.storyboard.file.storyboard import ENTRIES, Storyboard, load_storyboard, naming, parse_storyboard
from interp_refiner.storyboard.file.timeline import refuse_collisions
from interp_refiner.storyboard.pipeline.arguments import RefinerOutput, Request
from interp_refiner.storyboard.pipeline.pipeline import RefinerPipeline
from interp_refiner.storyboard.plan.plan import VideoPlan, VideoSize
from interp_refiner.storyboard.sampling.report import joint_records, keyframe_records, storyboard_sheet
from interp_refiner.storyboard.sampling.terminal import show_cost, show_plan, show_result
from interp_refiner.training.checkpoint import is_exported, located

OF_PROMPT = ("prompt", "frames", "keyframes_at")  # settings that a storyboard may also contain
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


def sample_video(cfg: DictConfig, load: Callable[[], RefinerPipeline]) -> None:
    """Makes a video of ``cfg.storyboard`` or of ``cfg.prompt``, or prints its plan.

    Everything is checked before anything is written.

    Args:
        cfg: of ``interp_refiner.sample``.
        load: loads the pipeline to its device; called after the storyboard and the output are checked.

    Raises:
        BadValue: names the entry of the storyboard, or the setting.
    """
    board = board_of(cfg)
    output = checked_output(cfg, board)
    seconds: Timings = {}
    with timed(seconds, "loading"):
        pipeline = load()
        pipeline.sampler.check(pipeline.corruption)
    with naming("storyboard", only=ENTRIES) if cfg.storyboard is not None else nullcontext():
        request, notes = read_board(pipeline, board, cfg.seed, only_looks=cfg.dry_run)
        keyframes, plan = pipeline.planned(request, collide=cfg.dry_run)
        advice = "add sampler=<name> sampler/guidance=classifier_free"
        notes += pipeline.negative_notes(request, pipeline.sampler.guidance, pipeline.objective.distilled, advice)
        notes += pipeline.sampler_notes()
        sound = board.sound(plan.placed, plan.fps)
        if sound is not None:
            sound.samples(plan.grid.num_frames / plan.fps)  # damage shows here, not after the sampling
        if cfg.dry_run:
            show_plan(plan, keyframes, notes)
            refuse_collisions(plan.placed, keyframes)
            pipeline.embed([board.prompt, *(keyframe.prompt or "" for keyframe in keyframes)])
            show_cost(pipeline, plan, keyframes, board.prompt)
            return
        forget_peak_memory(pipeline.device)
        with timed(seconds, "refining and decoding"):
            result = pipeline.make(request, output_type="pt")
    report = {
        "storyboard": str(cfg.storyboard) if cfg.storyboard is not None else None,
        "checkpoint": str(cfg.checkpoint),
        "settings": settings(cfg, board, pipeline, plan),
        "notes": [*notes, *plan.notes],
        "keyframes": keyframe_records(result, result.frames),
        "joints": joint_records(result),
        "peak_memory_gb": round(peak_memory(pipeline.device) / 1e9, 3),
    }
    with timed(seconds, "writing"):
        scale = cfg.upscale or legible_scale(*result.frames.shape[-2:])
        write_mp4(output["video"], result.frames, plan.fps, scale, sound=sound)
        write(cfg, pipeline, result, board.prompt, output, scale)
    files = [str(file) for name, file in output.items() if name != "report"]
    report |= {"files": files, "seconds": {name: round(value, 3) for name, value in seconds.items()}, **run_metadata()}
    output["report"].write_text(json.dumps(report, indent=2) + "\n")
    show_result(report, output["report"])


def board_of(cfg: DictConfig) -> Storyboard:
    """The storyboard from the settings: a file, or a prompt that generates its keyframes.

    Raises:
        BadValue: neither; a prompt, length or times together with a file; or an error of :func:`load_storyboard`.
    """
    own = {name: plain(cfg[name]) for name in OF_PROMPT if cfg[name] is not None}
    if cfg.storyboard is not None:
        for name, value in own.items():
            raise BadValue(name, value, "null with a storyboard, which has its own")
        return load_storyboard(cfg.storyboard)
    if not cfg.prompt:
        raise BadValue("prompt", cfg.prompt, "what the video shows, or storyboard=<file>")
    return parse_storyboard(own)


def plain(value: Any) -> Any:
    """A setting's value, with lists as Python lists."""
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def read_board(
    pipeline: RefinerPipeline, board: Storyboard, seed: int = 0, only_looks: bool = False
) -> tuple[Request, list[str]]:
    """The request for a storyboard, with keyframes at the size of the video, and notes.

    There is a note for every fitted picture, and for every part of a prompt that the model cannot use.

    With ``only_looks`` the files are read but no picture is kept, which is enough for a plan.

    Raises:
        BadValue: names the entry or the setting.
    """
    planner = pipeline.planner
    height, width = planner.size(board.height, board.width)
    frames = planner.length(board.frames, board.seconds, board.fps)
    longest = frames + pipeline.codec.temporal_factor
    keyframes, fitted = board.read(width, height, board.fps or planner.fps, longest, only_looks)
    size = VideoSize(frames, height, width, board.fps)
    request = Request(board.prompt, keyframes, size, board.keyframes_at, board.negative_prompt, seed)
    if board.fps is None and pipeline.config.spec.fps is None:
        fitted.append(f"the model's data declares no frame rate: {planner.fps:g} frames per second are assumed (fps)")
    return request, [*fitted, *pipeline.prompt_notes(request)]


def checked_output(cfg: DictConfig, board: Storyboard) -> dict[str, Path]:
    """The files that will be written; they must not be inputs of the video.

    Args:
        cfg: ``output`` names the mp4, the other files are written beside it; ``also`` lists optional ones.
        board: the storyboard.

    Raises:
        BadValue: no mp4 name (unless nothing will be written); a name that belongs to the storyboard, one of its files
            or an exported folder; a frames folder that is not empty; a folder that cannot be written to.
    """
    for extra in cfg.also:
        choice("also", extra, EXTRAS)
    if cfg.upscale is not None and cfg.upscale < 1:
        raise BadValue("upscale", cfg.upscale, "at least 1, or null")
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
    sources = [*([Path(cfg.storyboard).expanduser()] if cfg.storyboard is not None else []), *board.files, *model]
    read = {file.resolve() for file in sources}
    for file in files.values():
        if file.resolve() in read or any(file.exists() and file.samefile(other) for other in sources if other.exists()):
            raise BadValue("output", cfg.output, f"another name: this video reads {file}, which would be replaced")
    if (frames := files.get("frames")) and frames.exists() and (not frames.is_dir() or any(frames.iterdir())):
        raise BadValue("output", cfg.output, f"another name, because also=frames would write to {frames}, which exists")
    return files


def settings(cfg: DictConfig, board: Storyboard, pipeline: RefinerPipeline, plan: VideoPlan) -> dict[str, Any]:
    """The settings that determine the video, apart from weights and pictures."""
    factor = pipeline.codec.spatial_factor
    return {
        "seed": cfg.seed,
        "sampler": type(pipeline.sampler).__name__,
        "guidance": repr(pipeline.sampler.guidance),
        "views": repr(pipeline.sampler.views),
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
        "inference": plain(cfg.inference),
        **({"keyframes_from": repr(pipeline.phase1.chosen(pipeline.codec))} if pipeline.phase1 is not None else {}),
    }


def write(
    cfg: DictConfig,
    pipeline: RefinerPipeline,
    result: RefinerOutput,
    prompt: str,
    output: dict[str, Path],
    scale: int,
) -> None:
    """Writes the contact sheet and the requested extra files; a gif is enlarged by ``scale``."""
    video, fps = result.frames, result.plan.fps
    if "gif" in output:
        output["gif"].write_bytes(gif_bytes(video, fps, scale))
    if "frames" in output:
        output["frames"].mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(as_frames(video).numpy()):
            Image.fromarray(frame).save(output["frames"] / f"{number:05d}.png")
    if "latents" in output:
        save_tensors({"latents": result.latents[0]}, output["latents"])
    interpolation = pipeline.decode(result.interpolation, like=result.latents)
    name = Path(cfg.storyboard).stem if cfg.storyboard is not None else ""
    title = "   ".join(filter(None, [name, pipeline.codec.caveat, prompt]))
    storyboard_sheet(result, video, interpolation, title).save(output["sheet"])


@contextmanager
def timed(seconds: Timings, name: str) -> Iterator[None]:
    """Records the duration of the block."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
