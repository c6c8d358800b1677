"""Judges a trained refiner on held-out clips: ``python -m interp_refiner.evaluate checkpoint=<file or run folder>``."""

import json
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from tqdm import tqdm

from interp_refiner.assemble import CONFIG_FILE, Run, find_checkpoint, inference_overrides, load_run
from interp_refiner.config import Settings, build, main, option_name, quiet_libraries, run_metadata
from interp_refiner.config.nodes import dotted
from interp_refiner.core import BadValue, Corrupted
from interp_refiner.data.codec import side_by_side, stacked, write_mp4
from interp_refiner.data.shards.remote import is_url
from interp_refiner.evaluation import (
    ClipError,
    Evaluation,
    Evaluator,
    Methods,
    ReplacedKeyframes,
    config_name,
    error_by_gap,
    figure,
    markdown_report,
    perception_distortion,
    temporal_ratios,
)
from interp_refiner.evaluation.measures import Bootstrap, keyframe_report
from interp_refiner.evaluation.medium import Table
from interp_refiner.evaluation.report import NOTHING, shown
from interp_refiner.forward.scheduled_sampling import Replacing

COMPACT: dict[str, tuple[str, str, dict[str, Any]]] = {  # heading: (records, figure, how it is written)
    "MSE": ("errors", "mse_ratio/{method}/{base}", {}),
    "better": ("errors", "mse_better/{method}/{base}", {"percent": True}),
    "PSNR": ("scores", "psnr/{method}", {"digits": 2}),
    "SSIM": ("scores", "ssim/{method}", {}),
    "Frechet": ("frechet", "frechet_ratio/{method}/{base}", {}),
    "boundary": ("realism", "boundary_motion/{method}", {"digits": 2}),
    "inside": ("realism", "inside_motion/{method}", {"digits": 2}),
    "worse": ("mazes", "worse/{method}/{base}", {"percent": True}),
    "edges in walls": ("mazes", "edge_collisions/{method}", {"percent": True, "digits": 1}),
    "paths in walls": ("mazes", "collision_rate/{method}", {"percent": True}),
    "length": ("mazes", "length_ratio/{method}", {"digits": 2}),
}
COMPACT_STYLE: dict[str, Any] = {"box": SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "collapse_padding": True}
NARROWEST_NAME = 12  # letters
PLOTS = {  # name: (what draws it, the figures without which there is nothing to draw)
    "error_by_gap": (error_by_gap, "errors"),
    "perception_distortion": (perception_distortion, "frechet"),
    "temporal": (temporal_ratios, "realism"),
}


@dataclass
class EvaluateSettings(Settings):
    """Top-level values of ``conf/evaluate.yaml``.

    Attributes:
        checkpoint: a run folder, or a checkpoint file inside one.
        overrides: values of the run's own config to replace.
        split: the folder of held-out clips below the data's root; None for the run's own.
        anchors: the folder of anchor shards; None for the run's own.
        clips: how many held-out clips; None for all.
        scores_clips: how many of them are measured beyond squared error, which may need decoding; None for all.
        num_samples: samples a clip; with 2 or more of a stochastic sampler their energy score and spread are measured.
        batch_size: clips at a time.
        device: ``auto``, ``cpu`` or ``cuda``.
        fps: of the videos written.
    """

    checkpoint: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    split: str | None = None
    anchors: str | None = None
    clips: int | None = None
    scores_clips: int | None = None
    num_samples: int = 1
    batch_size: int = 32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    fps: float = 8.0


@main("evaluate", EvaluateSettings)
def evaluate(cfg: DictConfig) -> None:
    """Writes ``evaluation.json``, ``evaluation.md``, plots, and the worst, median and best clips to look at."""
    quiet_libraries()
    run = load_for_evaluation(cfg)
    replaced = ReplacedKeyframes()
    interpolation, bootstrap = option_name("interpolator", run.config.interpolator), Bootstrap(seed=cfg.seed)
    settings = (cfg.num_samples, cfg.scores_clips, bootstrap, interpolation, chosen_metrics(cfg))
    evaluator = Evaluator(run.refiner, run.data.medium, *settings)
    with tqdm(total=count_pairs(run), desc="clips at all levels", unit="clip") as progress:
        for first, level, corrupted in by_level(run):
            evaluator.update(corrupted, level, first)
            replaced.update(corrupted, level)
            progress.update(corrupted.clip.batch_size)
    sparsest = run.refiner.corruption.num_levels(run.data.metadata.num_frames)
    ranking = evaluator.ranking(sparsest)
    evaluation = evaluator.compute(describe(cfg, run, len(ranking), replaced))
    folder = Path(cfg.paths.output_dir)
    plots = write_figures(evaluation, folder)
    plots += write_clips(run, evaluator.methods, examples(ranking), folder, cfg.fps)
    (folder / "evaluation.md").write_text(markdown_report(evaluation, plots))
    show(evaluation, folder)


def load_for_evaluation(cfg: DictConfig) -> Run:
    """The run with the sampler, the held-out clips and the device that the config asks for.

    Raises:
        BadValue: no checkpoint, no such split, no such device, or too few clips.
    """
    check(cfg)
    run = load_run(cfg.checkpoint, overrides={"data.val_samples": cfg.clips, **inference_overrides(cfg)})
    device = ("cuda" if torch.cuda.is_available() else "cpu") if cfg.device == "auto" else cfg.device
    run.refiner.to(device)
    run.data.medium.to(device)
    levels = run.refiner.corruption.num_levels(run.data.metadata.num_frames)
    clips = count_pairs(run) // levels
    if clips < 2:
        raise BadValue("clips", clips, "at least 2 held-out clips")
    # whole clips in every batch, and none left alone in the last, where no keyframes could be shuffled
    size = next(size for size in range(cfg.batch_size, cfg.batch_size + clips) if clips % size != 1)
    run.data.val_batch_size = levels * size
    return run


def chosen_metrics(cfg: DictConfig) -> dict[str, Table]:
    """What ``metric=[...]`` asks for: functions that make a table, by name."""
    nodes = cfg.get("metric") or {}
    return {str(name): partial(build, node) for name, node in nodes.items()}


def check(cfg: DictConfig) -> None:
    """Refuses what can be refused before anything is loaded."""
    if cfg.batch_size < 2:
        raise BadValue("batch_size", cfg.batch_size, "at least 2: keyframes are shuffled among the clips of a batch")
    if not 0 < cfg.fps < inf:
        raise BadValue("fps", cfg.fps, "a finite number > 0")
    if cfg.clips is not None and cfg.clips < 2:
        raise BadValue("clips", cfg.clips, "at least 2 held-out clips, or null for all")
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise BadValue("device", "cuda", "auto or cpu: no GPU is available")
    config = OmegaConf.load(find_checkpoint(cfg.checkpoint)[0] / CONFIG_FILE)
    data = cfg.get("data") or config.data
    place = dotted(cfg.overrides).get("data.root", data.root)
    root = Path(place).expanduser()
    if cfg.split is None or cfg.split == data.get("val_split", "val") or is_url(place) or (root / cfg.split).is_dir():
        return
    splits = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    raise BadValue("split", cfg.split, f"a folder below {root}: {' | '.join(splits) or 'there is none'}", splits)


def count_pairs(run: Run) -> int:
    """How many (clip, level) pairs are held out."""
    return sum(map(len, run.data.val_dataloader().batches))


def by_level(run: Run, wanted: Container[str] | None = None) -> Iterator[tuple[int, int, Corrupted]]:
    """Held-out clips, corrupted: index of the first clip, level, and a batch of this level; only keys ``wanted``."""
    first = 0
    for clip in run.data.val_dataloader():
        levels = clip.level.tolist() if clip.level is not None else []
        for level in sorted(set(levels)):
            rows = [i for i, s in enumerate(levels) if s == level and (wanted is None or clip.keys[i] in wanted)]
            if rows:
                corrupted = run.data.on_after_batch_transfer(clip.select(rows).to(run.refiner.device), 0)
                run.refiner.corruption.scheduled_sampling.check_shown(corrupted)
                yield first, level, corrupted
        first += len(set(clip.keys))


def describe(cfg: DictConfig, run: Run, clips: int, replaced: ReplacedKeyframes) -> dict[str, Any]:
    """What was evaluated and how."""
    sampler = run.refiner.sampler
    metadata, corruption = run_metadata(), run.refiner.corruption
    replacing, schedule = corruption.scheduled_sampling, corruption.schedule
    how = f"{config_name(replacing)}, p={replacing.probability(None)}" if isinstance(replacing, Replacing) else None
    facts = {
        "checkpoint": str(run.checkpoint),
        "experiment": run.config.experiment_name,
        "data": f"{run.data.root}/{run.data.splits[1]}",
        "clips": clips,
        "clips decoded": min(clips, cfg.scores_clips or clips),
        "sampler": ", ".join([config_name(sampler), *(f"{name}={value}" for name, value in vars(sampler).items())]),
        "keyframes chosen by": f"{config_name(schedule)}, which sees {schedule.sees}",
        "keyframes replaced": how and f"{how}: {replaced}",
        "samples a clip": cfg.num_samples,
        "intervals": "95%, paired bootstrap over clips (Frechet distance: jackknife)",
        "command": metadata["command"],
        "commit": metadata["git_commit"] and metadata["git_commit"] + " with changes" * metadata["git_dirty"],
        "versions": ", ".join(f"{name} {version}" for name, version in metadata["versions"].items()),
        "device": metadata["device"],
    }
    return {name: value for name, value in facts.items() if value is not None}


def write_figures(evaluation: Evaluation, folder: Path) -> list[str]:
    """``evaluation.json`` and the plots; returns the names of the pictures."""
    evaluation.save(folder / "evaluation.json")
    drawn = {f"{name}.png": plot for name, (plot, needed) in PLOTS.items() if getattr(evaluation, needed)}
    for name, plot in drawn.items():
        plot(evaluation).savefig(folder / name, dpi=120)
    return list(drawn)


def examples(ranking: list[ClipError]) -> dict[str, ClipError]:
    """The best, the median and the worst clip of a ranking, best first."""
    return {"best": ranking[0], "median": ranking[len(ranking) // 2], "worst": ranking[-1]}


@torch.no_grad()
def write_clips(run: Run, methods: Methods, chosen: dict[str, ClipError], folder: Path, fps: float) -> list[str]:
    """Makes the chosen clips once more and writes each side by side as mp4, and all as contact sheets.

    ``clips.json`` holds, for each of them, the error ratio and the contract of every keyframe. Returns the names of the
    pictures.
    """
    report, sheets = {}, {}
    for _, level, batch in by_level(run, {error.key for error in chosen.values()}):
        if level != chosen["best"].level:
            continue
        samples = methods.samples(batch)
        made = methods.estimates(batch, samples)
        clips = {"truth": batch.clean, **{name: made[name] for name in sorted(made, key=methods.is_estimate)}}
        for name, error in chosen.items():  # of two clips, one is both the median and the worst
            if error.key not in batch.clip.keys:
                continue
            row = batch.clip.keys.index(error.key)
            prompt = batch.clip.prompts[row] if batch.clip.prompts else ""
            title = f"{name}: {error.key}  level {level}  MSE / linear {short(error.ratio)}  {prompt}"
            versions = {method: clip[row : row + 1].float() for method, clip in clips.items()}
            shown, title = (versions, batch.known[row].cpu(), batch.clip.select([row])), title.rstrip()
            sheets[name] = run.data.medium.sheet(*shown, title)
            sheets[name].save(folder / f"{name}.png")
            rows, keyframes = run.data.medium.videos(*shown)
            film = side_by_side(rows, list(versions), keyframes, run.data.medium.titled(title))
            write_mp4(folder / f"{name}.mp4", film, fps)
            one = [x[row : row + 1] for x in (clips[methods.shown], batch.values, batch.known)]
            beside = {"videos": list(clips), "frame_size": list(rows[0].shape[2:])}  # of <name>.mp4, for who cuts it up
            report[name] = {**asdict(error), **beside, "keyframes": keyframe_report(*one).records()[0]}
    stacked([sheets[name] for name in chosen]).save(folder / "clips.png")
    (folder / "clips.json").write_text(json.dumps({name: report[name] for name in chosen}, indent=1) + "\n")
    return ["clips.png"]


def short(ratio: float) -> str:
    """``0.552``, and ``over 100`` where the baseline is all but exact."""
    return f"{ratio:.3g}" if ratio <= 100 else "over 100"


def show(evaluation: Evaluation, folder: Path) -> None:
    """Prints estimates and baselines of every level, and where the rest is."""
    console = Console(highlight=False)
    methods, base = evaluation.named("estimate", "baseline"), evaluation.baseline
    cells = {(level, m): compact_row(evaluation, level, m) for level in evaluation.levels for m in methods}
    measured = [heading for heading in COMPACT if any(row[heading] != NOTHING for row in cells.values())]
    table = RichTable(title=f"held-out clips; MSE and Frechet distance relative to {base}", **COMPACT_STYLE)
    # headings are wrapped, in a narrow terminal names are folded, figures never cut
    widths = {h: max(map(len, [*h.split(), *(row[h] for row in cells.values())])) for h in measured}
    console.width = max(console.width, len("level") + NARROWEST_NAME + sum(widths.values()) + 2 * (len(widths) + 1))
    table.add_column("level", justify="right", width=len("level"))
    table.add_column("", overflow="fold", min_width=NARROWEST_NAME)
    for heading, width in widths.items():
        table.add_column(heading, justify="right", width=width)
    for level in evaluation.levels:
        for method in methods:
            table.add_row(str(level), method, *(cells[level, method][heading] for heading in measured))
        table.add_section()
    console.print(table)
    if "boundary" in measured:
        console.print(
            "boundary, inside: energy of motion / truth's, next to keyframes and inside gaps\n", soft_wrap=True
        )
    for label, name in (("report", "evaluation.md"), ("figures", "evaluation.json"), ("clips", "clips.png")):
        console.print(f"{label:<8} {folder / name}", soft_wrap=True)


def compact_row(evaluation: Evaluation, level: int, method: str) -> dict[str, str]:
    """One method at one level, without intervals, by heading."""
    row = {}
    for heading, (records, name, style) in COMPACT.items():
        names = name.format(method=method, base=evaluation.baseline)
        row[heading] = shown(figure(getattr(evaluation, records), names, level=level), interval=False, **style)
    return row


if __name__ == "__main__":
    evaluate()
