"""What a training leaves and prints at its end."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import lightning as L
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from interp_refiner.config import run_metadata, terminal
from interp_refiner.training.callback import SkipNonFinite, Throughput
from interp_refiner.training.checkpoint import LAST_CHECKPOINT

TENSORBOARD = "python -m tensorboard.main --logdir {run}"


@rank_zero_only
def write_summary(trainer: L.Trainer, folder: Path, about: dict[str, Any], final: dict[str, float], then: str) -> None:
    """``summary.json``: what was run, how fast, and what came out; then the commands that come next.

    Args:
        trainer: that has trained.
        folder: of the run.
        about: what was trained.
        final: figures of the last validation.
        then: the command that a reader would type next; ``{run}`` stands for the run folder.
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
    for name, row in level_rows(final).items():
        console.print(f"{name}: refined / interpolated error {row['ratio']:.3f}, {row['improved_share']:.0%} improved")
    console.print(f"\nsummary     {folder / 'summary.json'}\ncheckpoint  {folder / LAST_CHECKPOINT}", soft_wrap=True)
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    logged = any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers)
    first = [then, *([TENSORBOARD] if logged else [])]
    console.print(next_commands(folder, overrides, trainer.max_steps, first), soft_wrap=True)


def next_commands(folder: Path, overrides: list[str], max_steps: int, first: list[str]) -> str:
    """The commands that a reader would type next, as they can be pasted; ``first`` before the one that goes on."""
    kept = [o for o in overrides if not o.startswith(("ckpt_path=", "trainer.max_steps="))]
    longer = [*kept, f"ckpt_path={folder / LAST_CHECKPOINT}"]
    longer += [f"trainer.max_steps={2 * max_steps}"] if max_steps > 0 else []
    commands = [command.format(run=shlex.quote(str(folder))) for command in first]
    commands.append(f"python -m interp_refiner.train {shlex.join(longer)}")
    # the very Python that is running: a fresh machine has no other that knows this package
    python = shlex.quote(sys.executable)
    return "\n".join(["\nnext:", *(f"  {python}{command.removeprefix('python')}" for command in commands)])
