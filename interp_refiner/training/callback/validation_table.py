"""Validation results as people read them: per level, interpolation against refinement."""

from collections.abc import Mapping

import lightning as L
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table


class ValidationTable(L.Callback):
    """Prints missing-frame error of interpolation and refinement per level after every validation."""

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        rows = level_rows({name: float(value) for name, value in trainer.callback_metrics.items()})
        table = Table(title=f"held-out clips after {trainer.global_step} steps (missing frames)")
        for heading in ("level", "interpolation MSE", "refined MSE", "ratio", "clips improved"):
            table.add_column(heading, justify="right")
        for name, row in rows.items():
            errors = (f"{row['interpolation_mse']:.4f}", f"{row['refined_mse']:.4f}", f"{row['ratio']:.3f}")
            table.add_row(name, *errors, f"{row['improved_share']:.0%}")
        Console(markup=False, emoji=False).print(table)


def level_rows(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """``{"val/level_2/ratio": r, ...}`` -> ``{"level_2": {"ratio": r, ...}, ...}``, levels in order, the mean last."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in sorted(metrics.items(), key=lambda item: ("mean" in item[0], item[0])):
        match name.split("/"):
            case ["val", group, figure]:
                rows.setdefault(group, {})[figure] = value
    return rows
