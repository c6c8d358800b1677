"""Trains a refiner or a part of one: ``python -m interp_refiner.train +experiment=gt_keyframes``."""

from pathlib import Path

from omegaconf import DictConfig

from interp_refiner.assemble import assemble, located_teacher, located_weights, start
from interp_refiner.config import build, call, main, print_config, quiet_libraries, save_config
from interp_refiner.core import keep_freed_memory
from interp_refiner.training.checkpoint import check_state, resume_path, with_stored_adapters
from interp_refiner.training.record import Claimed
from interp_refiner.training.record.recording import Recording, duplicate, recorded
from interp_refiner.training.record.summary import print_start, write_summary
from interp_refiner.training.settings import TrainSettings, check_bases, evaluation_overrides
from interp_refiner.training.step_memory import check_step_memory
from interp_refiner.training.strategy import leave_processes
from interp_refiner.training.validation import check_metric, check_metric_of, validate_fully


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
    if checkpoint is None:  # refuses wrong values before the work
        check_bases(cfg)
        if cfg.initial_weights is not None:
            located_weights(cfg)
    if "teacher" in cfg.training:
        located_teacher(cfg)
    if cfg.print_config:
        print_config(cfg)
    callbacks = [build(node) for node in [*cfg.callback.values(), cfg.get("checkpoint")] if node is not None]
    loggers = [build(node) for node in cfg.logger.values() if node is not None]
    trainer = build(cfg.trainer, callbacks=callbacks, logger=loggers or False)
    run = assemble(cfg if checkpoint is None else with_stored_adapters(cfg, checkpoint, "ckpt_path"))
    check_step_memory(run.module, run.spec, cfg.data.batch_size, cfg.gpu_gb, trainer)
    check_metric_of(cfg.optimized_metric, trainer, run.module)
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
    final = validate_fully(trainer, run.module, run.data.validating(samples=None))
    again = [f"optimizer.lr={cfg.optimizer.lr}"]  # a longer run may need another one
    write_summary(trainer, folder, {"experiment": cfg.experiment_name}, final, cfg.next_command, again)
    if cfg.evaluation is not None:
        leave_processes()
        if trainer.is_global_zero:
            call("evaluate", folder / "evaluation", *evaluation_overrides(cfg))
    return final


if __name__ == "__main__":
    train()
