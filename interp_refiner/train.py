"""Trains a refiner or a part of one: ``python -m interp_refiner.train +experiment=gt_keyframes``."""

from collections.abc import Collection
from pathlib import Path

import lightning as L
import torch.distributed as dist
from omegaconf import DictConfig

from interp_refiner.assemble import Run, assemble, located_weights, start
from interp_refiner.config import build, call, main, print_config, quiet_libraries, save_config
from interp_refiner.core import BadValue, keep_freed_memory
from interp_refiner.training import Refiner
from interp_refiner.training.checkpoint import check_state, resume_path, with_stored_adapters
from interp_refiner.training.record import Claimed
from interp_refiner.training.record.recording import Recording, duplicate, recorded
from interp_refiner.training.record.summary import print_start, write_summary
from interp_refiner.training.settings import TrainSettings
from interp_refiner.training.step_memory import check_step_memory


@main("train", TrainSettings)
def train(cfg: DictConfig) -> float | None:
    """Fits ``cfg.training``, validates it on all held-out clips, and leaves a run folder with ``summary.json``.

    Returns:
        The ``optimized_metric``, if there is one. If another run has done or is doing the same job of a sweep, this run
        ends at once as a duplicate.
    """
    quiet_libraries()
    keep_freed_memory()
    try:
        with recorded(cfg, train.program) as recording:
            final = fit(cfg, recording)
            check_metric(cfg.optimized_metric, final)
    except Claimed as claimed:
        return duplicate(cfg, train.program, claimed.run)
    return final[cfg.optimized_metric] if cfg.optimized_metric is not None else None


def fit(cfg: DictConfig, recording: Recording) -> dict[str, float]:
    """Trains and validates; returns the figures of the last validation, none for a ``fast_dev_run``."""
    folder = Path(cfg.paths.output_dir)
    checkpoint = resume_path(cfg.ckpt_path, folder)
    if checkpoint is None and cfg.initial_weights is not None:
        located_weights(cfg)  # refuses a wrong value before the work
    if cfg.print_config:
        print_config(cfg)
    callbacks = [build(node) for node in [*cfg.callback.values(), cfg.get("checkpoint")] if node is not None]
    loggers = [build(node) for node in cfg.logger.values() if node is not None]
    trainer = build(cfg.trainer, callbacks=callbacks, logger=loggers or False)
    run = assemble(cfg if checkpoint is None else with_stored_adapters(cfg, checkpoint))
    check_step_memory(run.module, run.spec, cfg.data.batch_size, cfg.gpu_gb, trainer)
    if not validates(trainer):
        check_metric(cfg.optimized_metric, [])
    elif isinstance(run.module, Refiner):
        check_metric(cfg.optimized_metric, run.module.metrics)
    if checkpoint is not None:
        check_state(checkpoint, run.module)
    elif cfg.initial_weights is not None:
        start(run.module, cfg)
    save_config(cfg, folder)
    print_start(trainer, run.module, folder)
    recording.start(trainer, run.data)
    trainer.fit(run.module, datamodule=run.data, ckpt_path=checkpoint)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if trainer.fast_dev_run:
        return {}
    final = validate_fully(trainer, run)
    again = [f"optimizer.lr={cfg.optimizer.lr}"]  # a longer run may need another one
    write_summary(trainer, folder, {"experiment": cfg.experiment_name}, final, cfg.next_command, again)
    if cfg.evaluation is not None:
        evaluate_alone(cfg, folder, trainer.is_global_zero)
    return final


def evaluate_alone(cfg: DictConfig, folder: Path, evaluates: bool) -> None:
    """Runs ``interp_refiner.evaluate`` in rank zero; every rank has to call this.

    All ranks leave their process group first: a metric would wait for the others as long as there is one.
    """
    if dist.is_available() and dist.is_initialized():
        dist.barrier()  # rank zero still writes, and no rank leaves while another communicates
        dist.destroy_process_group()
    if evaluates:
        chosen = [f"{name}={value}" for name, value in cfg.evaluation.items()]
        call("evaluate", folder / "evaluation", f"checkpoint={folder}", *chosen)


def check_metric(name: str | None, known: Collection[str]) -> None:
    """Refuses, with :class:`BadValue`, an ``optimized_metric`` that is none of the ``known`` ones of a validation."""
    if name is not None and name not in known:
        raise BadValue("optimized_metric", name, " | ".join(known) or "null, because this run has no validation", known)


def validates(trainer: L.Trainer) -> bool:
    """Whether the validation at the end gives figures."""
    return not trainer.fast_dev_run and trainer.limit_val_batches != 0  # type: ignore[attr-defined]


def validate_fully(trainer: L.Trainer, run: Run) -> dict[str, float]:
    """Validation with the averaged weights on every held-out clip."""
    results = trainer.validate(run.module, datamodule=run.data.validating(samples=None), verbose=False)
    return {name: float(value) for figures in results for name, value in figures.items()}  # none: limit_val_batches=0


if __name__ == "__main__":
    train()
