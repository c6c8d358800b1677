"""The validation at the end of training, and checks of ``optimized_metric``, the figure that a sweep minimises."""

from collections.abc import Collection

import lightning as L

from interp_refiner.core import BadValue
from interp_refiner.training.refiner import Refiner


def validate_fully(trainer: L.Trainer, module: L.LightningModule, held_out: L.LightningDataModule) -> dict[str, float]:
    """Validates with the averaged weights on all ``held_out`` clips; empty with ``limit_val_batches=0``."""
    results = trainer.validate(module, datamodule=held_out, verbose=False)
    return {name: float(value) for figures in results for name, value in figures.items()}


def check_metric(name: str | None, known: Collection[str]) -> None:
    """Refuses, with :class:`BadValue`, an ``optimized_metric`` that is not among the ``known`` names."""
    if name is not None and name not in known:
        raise BadValue("optimized_metric", name, " | ".join(known) or "null, because this run has no validation", known)


def check_metric_of(name: str | None, trainer: L.Trainer, module: L.LightningModule) -> None:
    """:func:`check_metric` before training, as far as the names are known then: those of a refiner, or none."""
    if trainer.fast_dev_run or trainer.limit_val_batches == 0:  # type: ignore[attr-defined]
        check_metric(name, [])
    elif isinstance(module, Refiner):
        check_metric(name, module.metrics)
