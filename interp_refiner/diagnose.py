"""What a forward process does to clips: ``python -m interp_refiner.diagnose schedule=dp corruption.sigma=0.5``."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from interp_refiner.core import BadValue, Clip
from interp_refiner.corruption import Corruption
from interp_refiner.data import EVALUATION_STREAM, ShardedDataModule
from interp_refiner.entry import Settings, build, keep_freed_memory, main, quiet_libraries, run_metadata, save_config
from interp_refiner.evaluation import Diagnosis, config_name, markdown_table
from interp_refiner.evaluation.diagnosis import Row
from interp_refiner.interpolator import use_codec
from interp_refiner.run import build_codec
from interp_refiner.schedule import DynamicProgramming


@dataclass
class DiagnoseSettings(Settings):
    """Top-level values of ``conf/diagnose.yaml``.

    Attributes:
        clips: how many held-out clips; None for all.
        batch_size: clips at a time.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    clips: int | None = 64
    batch_size: int = 16
    device: Literal["auto", "cpu", "cuda"] = "auto"


@main("diagnose", DiagnoseSettings)
def diagnose(cfg: DictConfig) -> None:
    """Prints gaps, corruption sizes and interpolation errors by level; writes them as JSON and Markdown."""
    quiet_libraries()
    keep_freed_memory()
    if cfg.batch_size < 1:
        raise BadValue("batch_size", cfg.batch_size, "at least 1")
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise BadValue("device", "cuda", "auto or cpu: no GPU is available")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if cfg.device == "auto" else cfg.device
    corruptions = compared(cfg)
    data = open_data(cfg, corruptions)
    rows = measure(tqdm(clips(data, cfg.batch_size, device), desc="batches of clips"), corruptions)
    write(rows, corruptions, cfg)


def compared(cfg: DictConfig) -> dict[str, Corruption]:
    """The same corruption under every schedule that is asked for, by name; the run's own schedule first."""
    own = build(cfg.corruption)
    corruptions = {config_name(own.schedule): own}
    for name, node in cfg.compare.items():
        if name in corruptions:
            raise BadValue(f"compare.{name}", node._target_, f"another name: schedule={name} is in the table already")
        corruptions[str(name)] = build(cfg.corruption, schedule=build(node))
    return corruptions


def open_data(cfg: DictConfig, corruptions: dict[str, Corruption]) -> ShardedDataModule:
    """The data module; every corruption is checked against its clips, and gets its codec."""
    data = build(cfg.data, corruption=next(iter(corruptions.values())), val_samples=cfg.clips)
    shape = data.metadata.latent_shape
    codec = build_codec(cfg.codec, data)
    for corruption in corruptions.values():
        corruption.check(shape)
        use_codec(corruption.interpolator, codec)
    return data


def clips(data: ShardedDataModule, batch_size: int, device: str) -> Iterator[Clip]:
    """Every held-out clip once, in float32 on ``device``."""
    data.val_batch_size = batch_size * data.corruption.num_levels(data.metadata.num_frames)
    for clip in data.val_dataloader():
        levels = clip.level.tolist() if clip.level is not None else []
        once = clip.select([row for row, level in enumerate(levels) if level == 1]).to(device)
        yield replace(once, latents=once.latents.float(), level=None)


@torch.no_grad()
def measure(batches: Iterable[Clip], corruptions: dict[str, Corruption]) -> list[Row]:
    """The figures of all clips, see :class:`Diagnosis`; with the overlap with dp where dp is among the schedules."""
    diagnosis = Diagnosis()
    bound = next((name for name, c in corruptions.items() if isinstance(c.schedule, DynamicProgramming)), None)
    # dp comes first, to be there for the others
    order = sorted(corruptions, key=lambda name: name != bound)
    for clip in batches:
        best: dict[int, torch.Tensor] = {}
        for name in order:
            for level in range(1, corruptions[name].num_levels(clip.num_frames) + 1):
                levels = torch.full((clip.batch_size,), level, device=clip.latents.device)
                corrupted = corruptions[name](replace(clip, level=levels), EVALUATION_STREAM)
                if name == bound:
                    best[level] = corrupted.known
                diagnosis.update(name, level, corrupted, best.get(level))
    places = {name: place for place, name in enumerate(corruptions)}
    return sorted(diagnosis.rows(), key=lambda row: (row["level"], places[row["schedule"]]))


HEADINGS = {
    "schedule": "schedule",
    "keyframes": "K",
    "mean_gap": "mean gap",
    "missing_gap": "gap of a missing frame",
    "largest_gap": "largest gap",
    "longest_gap": "of all clips",
    "corruption_rms": "RMS x - z0",
    "noise_rms": "noise",
    "correction_rms": "correction",
    "interpolation_mse": "interpolation MSE",
    "overlap": "overlap with dp",
}
DECIMALS = {"keyframes": 1, "mean_gap": 2, "missing_gap": 2, "largest_gap": 2, "overlap": 2, "interpolation_mse": 4}


def shown(row: Row) -> list[str]:
    """A row as text, its level first; what was not measured is left out by :func:`write`."""
    texts = [str(row["level"])]
    for name in HEADINGS:
        value = row[name]
        texts.append(f"{value:.{DECIMALS.get(name, 3)}f}" if isinstance(value, float) else str(value))
    return texts


def write(rows: list[Row], corruptions: dict[str, Corruption], cfg: DictConfig) -> None:
    """The table on the terminal, as Markdown and as JSON."""
    folder = Path(cfg.paths.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    save_config(cfg, folder)
    kept = [place for place, name in enumerate(["level", *HEADINGS]) if rows[0].get(name) is not None]
    headings = [["level", *HEADINGS.values()][place] for place in kept]
    texts = [[shown(row)[place] for place in kept] for row in rows]
    first = next(iter(corruptions.values()))
    about = {
        "interpolator": config_name(first.interpolator),
        "noise": config_name(first.noise),
        "sigma": first.sigma,
        "data": str(cfg.data.root),
        "clips": rows[0]["clips"],
        "seed": cfg.seed,
    } | run_metadata()
    (folder / "diagnosis.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    facts = ", ".join(f"{name} {about[name]}" for name in ("interpolator", "noise", "sigma", "data", "clips", "seed"))
    text = f"# Diagnosis\n\n{facts}, commit {about['git_commit']}\n\n`{about['command']}`\n\n"
    (folder / "diagnosis.md").write_text(text + markdown_table(headings, texts))
    table = Table(title=facts, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "schedule" else "right")
    for row, after in zip(texts, [*texts[1:], None], strict=True):
        table.add_row(*row, end_section=after is not None and after[0] != row[0])
    console = Console(highlight=False)
    console.print(table)
    for label, name in (("table", "diagnosis.md"), ("figures", "diagnosis.json")):
        console.print(f"{label:<8} {folder / name}", soft_wrap=True)


if __name__ == "__main__":
    diagnose()
