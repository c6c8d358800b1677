"""Trains a refiner or a part of one: ``python -m interp_refiner.train +experiment=gt_keyframes``."""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console

from interp_refiner.assemble import LAST_CHECKPOINT, Run, assemble, start_from
from interp_refiner.config import (
    Settings,
    build,
    call,
    keep_freed_memory,
    main,
    print_config,
    quiet_libraries,
    run_metadata,
    save_config,
)
from interp_refiner.core import BadValue
from interp_refiner.training.callback import SkipNonFinite, Throughput, level_rows
from interp_refiner.training.checkpoint import check_same_run, check_state, resume_path
from interp_refiner.training.optimizer import OptimizerRecipe
from interp_refiner.training.record import Claimed
from interp_refiner.training.record.recording import Recording, duplicate, recorded

TENSORBOARD = "python -m tensorboard.main --logdir {run}"


@dataclass
class TrainSettings(Settings):
    """Top-level values of ``conf/train.yaml``.

    Attributes:
        experiment_name: of the method, for logs.
        ckpt_path: what to resume from: ``"last"`` (of this run folder), a run folder, or a checkpoint file.
        initial_weights: a run folder or checkpoint whose averaged weights a new run starts from.
        next_command: what to type after it, printed at the end; ``{run}`` stands for the run folder.
        optimized_metric: what a sweep minimises; the task returns it.
        gathered_dtype: ``"float32"`` or ``"bfloat16"``, of the blocks of sharded strategies.
        activation_gb: what selective recomputation may keep, in 10^9 bytes; None: no limit.
        evaluation: settings of ``interp_refiner.evaluate``, which then judges the run at its end; None: it does not.
        duplicates: what a job of a sweep does whose twin, a run of the same identity, is done or under way.
        log_book: the folder where the run is entered when it ends; None: nowhere.
    """

    experiment_name: str = "default"
    ckpt_path: str | None = None
    initial_weights: str | None = None
    next_command: str = "python -m interp_refiner.sample checkpoint={run}"
    optimized_metric: str | None = None
    gathered_dtype: str = "float32"
    activation_gb: float | None = None
    evaluation: dict[str, Any] | None = None
    duplicates: Literal["skip", "run"] = "skip"
    log_book: str | None = None

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        check_same_run(cfg)


@main("train", TrainSettings)
def train(cfg: DictConfig) -> float | None:
    """Fits ``cfg.training``, validates it on all held-out clips, and leaves a run folder with ``summary.json``.

    Returns:
        The ``optimized_metric``, if there is one. A job of a sweep that another run has done already, or is doing, ends
        at once as a duplicate of it.
    """
    quiet_libraries()
    keep_freed_memory()
    try:
        with recorded(cfg, train.program) as recording:
            final = fit(cfg, recording)
            if cfg.optimized_metric is not None and cfg.optimized_metric not in final:
                raise BadValue("optimized_metric", cfg.optimized_metric, " | ".join(final), final)
    except Claimed as claimed:
        return duplicate(cfg, train.program, claimed.run)
    return final[cfg.optimized_metric] if cfg.optimized_metric is not None else None


def fit(cfg: DictConfig, recording: Recording) -> dict[str, float]:
    """The run itself; returns the figures of the last validation, none of a ``fast_dev_run``."""
    checkpoint = resume_path(cfg.ckpt_path, Path(cfg.paths.output_dir))
    print_config(cfg)
    nodes = [*cfg.callback.values(), cfg.get("checkpoint")]
    callbacks = [build(node) for node in nodes if node is not None]
    loggers = [build(node) for node in cfg.logger.values() if node is not None]
    trainer = build(cfg.trainer, callbacks=callbacks, logger=loggers or False)
    run = assemble(cfg)
    if checkpoint is not None:
        recipe: OptimizerRecipe = run.module.recipe  # type: ignore[assignment]
        check_state(checkpoint, run.module, recipe.optimizer(run.module))
    elif cfg.initial_weights is not None:
        start_from(run, cfg.initial_weights)
    save_config(cfg, cfg.paths.output_dir)
    recording.start(trainer, run.data)
    trainer.fit(run.module, datamodule=run.data, ckpt_path=checkpoint)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if trainer.fast_dev_run:
        return {}
    final = validate_fully(trainer, run)
    write_summary(trainer, run, final)
    if cfg.evaluation is not None and trainer.is_global_zero:
        evaluate_run(Path(cfg.paths.output_dir), cfg.evaluation)
    return final


def evaluate_run(folder: Path, settings: Mapping[str, Any]) -> None:
    """What ``python -m interp_refiner.evaluate`` does with the run, into ``<run>/evaluation``."""
    from interp_refiner.evaluate import evaluate  # here, since plots take long to import

    chosen = [f"{name}={value}" for name, value in settings.items()]
    call(evaluate, folder / "evaluation", f"checkpoint={folder}", *chosen)


def validate_fully(trainer: L.Trainer, run: Run) -> dict[str, float]:
    """Validation with the averaged weights on every held-out clip."""
    run.data.val_samples = None
    results = trainer.validate(run.module, datamodule=run.data, verbose=False)
    return {name: float(value) for figures in results for name, value in figures.items()}  # none: limit_val_batches=0


@rank_zero_only
def write_summary(trainer: L.Trainer, run: Run, final: dict[str, float]) -> None:
    """``summary.json``: what was run, how fast, and what came out; then the commands that come next."""
    folder = Path(run.config.paths.output_dir)
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    throughput = next((c for c in callbacks if isinstance(c, Throughput)), None)
    non_finite = next((c for c in callbacks if isinstance(c, SkipNonFinite)), None)
    summary: dict[str, Any] = {
        "experiment": run.config.experiment_name,
        **final,
        "steps": trainer.global_step,
        "skipped_steps": non_finite and non_finite.skipped,
        "samples_per_second": throughput and throughput.samples_per_second,
        "data_wait_share": throughput and throughput.data_wait_share,
        "throughput": throughput and throughput.figures(),
        "parameters": sum(p.numel() for p in run.module.parameters()),
        "checkpoint": str(folder / LAST_CHECKPOINT),
        **run_metadata(),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console = Console(highlight=False)
    for name, row in level_rows(final).items():
        console.print(f"{name}: refined / interpolated error {row['ratio']:.3f}, {row['improved_share']:.0%} improved")
    console.print(f"\nsummary     {folder / 'summary.json'}\ncheckpoint  {folder / LAST_CHECKPOINT}", soft_wrap=True)
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    logged = any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers)
    first = [run.config.next_command, *([TENSORBOARD] if logged else [])]
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


if __name__ == "__main__":
    train()
