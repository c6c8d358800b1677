"""Pictures of an evaluation: plots, and the worst, median and best clips."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from interp_refiner.data.codec import side_by_side, stacked, write_mp4
from interp_refiner.evaluation.evaluator.evaluator import ClipError
from interp_refiner.evaluation.evaluator.methods import Methods
from interp_refiner.evaluation.measures import keyframe_report
from interp_refiner.evaluation.records.markdown import brief_report, markdown_report
from interp_refiner.evaluation.records.plots import PLOTS
from interp_refiner.evaluation.records.records import FILE, Evaluation
from interp_refiner.evaluation.run.held_out import by_level
from interp_refiner.evaluation.run.run import Run


def write_outputs(evaluation: Evaluation, folder: Path, clips: Sequence[str] = ()) -> None:
    """Writes ``evaluation.json``, the plots, ``evaluation.md`` with the plots, and ``table.md`` for the log book.

    Args:
        evaluation: the results.
        folder: the output folder.
        clips: file names of pictures that it already contains.
    """
    evaluation.save(folder / FILE)
    drawn = {f"{name}.png": figure for name, plot in PLOTS.items() if (figure := plot(evaluation)) is not None}
    for name, figure in drawn.items():
        figure.savefig(folder / name, dpi=120)
    (folder / "evaluation.md").write_text(markdown_report(evaluation, [*drawn, *clips]))
    (folder / "table.md").write_text(brief_report(evaluation))


def examples(ranking: list[ClipError]) -> dict[str, ClipError]:
    """The best, the median and the worst clip of a ranking, best first."""
    return {"best": ranking[0], "median": ranking[len(ranking) // 2], "worst": ranking[-1]}


@torch.no_grad()
def write_clips(run: Run, methods: Methods, chosen: dict[str, ClipError], folder: Path, fps: float) -> list[str]:
    """Makes the chosen clips again; writes each as a side-by-side mp4, and all as contact sheets.

    ``clips.json`` holds the error ratio and the keyframe contract of each clip. Returns the names of the pictures.
    """
    report, sheets = {}, {}
    for _, level, batch in by_level(run, {error.key for error in chosen.values()}):
        if level != chosen["best"].level:
            continue
        samples = methods.samples(batch)
        made = methods.estimates(batch, samples)
        clips = {"truth": batch.clean, **{name: made[name] for name in sorted(made, key=methods.is_estimate)}}
        for name, error in chosen.items():  # with two clips, one is both the median and the worst
            if error.key not in batch.clip.keys:
                continue
            row = batch.clip.keys.index(error.key)
            prompt = batch.clip.prompts[row] if batch.clip.prompts else ""
            title = f"{name}: {error.key}  level {level}  MSE / linear {short(error.ratio)}  {prompt}"
            versions = {method: clip[row : row + 1].float() for method, clip in clips.items()}
            shown, title = (versions, batch.known[row].cpu(), batch.clip.select([row])), title.rstrip()
            sheets[name] = run.medium.sheet(*shown, title)
            sheets[name].save(folder / f"{name}.png")
            rows, keyframes = run.medium.videos(*shown)
            film = side_by_side(rows, list(versions), keyframes, run.medium.titled(title))
            write_mp4(folder / f"{name}.mp4", film, fps)
            one = [x[row : row + 1] for x in (clips[methods.shown], batch.values, batch.known)]
            beside = {"videos": list(clips), "frame_size": list(rows[0].shape[2:])}  # layout of <name>.mp4
            report[name] = {**asdict(error), **beside, "keyframes": keyframe_report(*one).records()[0]}
    stacked([sheets[name] for name in chosen]).save(folder / "clips.png")
    (folder / "clips.json").write_text(json.dumps({name: report[name] for name in chosen}, indent=1) + "\n")
    return ["clips.png"]


def short(ratio: float) -> str:
    """``0.552``; ``over 100`` if the baseline is almost exact."""
    return f"{ratio:.3g}" if ratio <= 100 else "over 100"
