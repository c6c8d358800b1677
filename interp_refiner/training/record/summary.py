"""The summary that training writes and prints at its end."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from rich.table import Table

from interp_refiner.config import given, next_command, run_metadata, terminal
from interp_refiner.training.callback import SkipNonFinite, Throughput
from interp_refiner.training.checkpoint import CONFIG_FILE, LAST_CHECKPOINT
from interp_refiner.training.missing_frame import FIGURES, level_cells, validated_clips

TENSORBOARD = "python -m tensorboard.main --logdir {run}"


@rank_zero_only
def print_start(trainer: L.Trainer, module: L.LightningModule, folder: Path) -> None:
    """Prints what will be trained, and the path of the complete config."""
    every = sum(p.numel() for p in module.parameters())
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    share = "" if trained == every else f", {trained:,} of them trained"
    device = f"{trainer.num_devices * trainer.num_nodes} x {type(trainer.accelerator).__name__}"
    console = terminal()
    console.print(f"training    {type(module).__name__}, {every:,} parameters{share}, {device}", soft_wrap=True)
    console.print(f"config      {folder / CONFIG_FILE}", soft_wrap=True)


@rank_zero_only
def write_summary(
    trainer: L.Trainer,
    folder: Path,
    about: dict[str, Any],
    final: dict[str, float],
    then: str,
    again: Sequence[str] = (),
) -> None:
    """Writes ``summary.json`` (settings, speed, results); prints the next commands and, last, the results.

    Args:
        trainer: the trainer after training.
        folder: of the run.
        about: description of the training.
        final: results of the last validation.
        then: the suggested next command; ``{run}`` stands for the run folder.
        again: overrides of the command that trains for longer, added if they are not given already.
    """
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    throughput = next((c for c in callbacks if isinstance(c, Throughput)), None)
    non_finite = next((c for c in callbacks if isinstance(c, SkipNonFinite)), None)
    summary: dict[str, Any] = {
        **about,
        **final,
        "steps": trainer.global_step,
        "skipped_steps": non_finite and non_finite.skipped,
        "samples_per_second": throughput and throughput.samples_per_second,
        "data_wait_share": throughput and throughput.data_wait_share,
        "throughput": throughput and throughput.figures(),
        "parameters": sum(p.numel() for p in trainer.lightning_module.parameters()),
        "checkpoint": str(folder / LAST_CHECKPOINT),
        **run_metadata(),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console = terminal()
    console.print(f"\nsummary     {folder / 'summary.json'}\ncheckpoint  {folder / LAST_CHECKPOINT}", soft_wrap=True)
    logged = any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers)
    first = [then, *([TENSORBOARD] if logged else [])]
    console.print(next_commands(folder, [*given(), *again], trainer.max_steps, first), soft_wrap=True)
    if cells := level_cells(final):
        table = Table(title=f"{validated_clips(trainer.limit_val_batches)}, missing frames")
        for heading in ("level", *(measure.heading for measure in FIGURES)):
            table.add_column(heading, justify="right")
        for level, texts in cells.items():
            table.add_row(level, *texts)
        console.print()
        console.print(table)


def next_commands(folder: Path, overrides: list[str], max_steps: int, first: list[str]) -> str:
    """The suggested next commands, ready to paste: those in ``first``, then one that trains for longer.

    If ``overrides`` has a key several times, the first value is used.
    """
    named = {text.partition("=")[0]: text for text in reversed(overrides)}
    kept = [text for text in overrides if named[text.partition("=")[0]] is text]
    kept = [o for o in kept if not o.startswith(("ckpt_path=", "trainer.max_steps="))]
    longer = [*kept, f"ckpt_path={folder / LAST_CHECKPOINT}"]
    longer += [f"trainer.max_steps={2 * max_steps}"] if max_steps > 0 else []
    commands = [command.format(run=shlex.quote(str(folder))) for command in first]
    python = shlex.quote(sys.executable)
    commands = [f"{python}{command.removeprefix('python')}" for command in commands]
    return "\n".join(["\nnext:", *(f"  {command}" for command in [*commands, next_command("train", *longer)])])
