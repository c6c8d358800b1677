"""Prints validation results as a table: interpolation and refinement, per level."""

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table

from interp_refiner.training.missing_frame import FIGURES, level_cells


class ValidationTable(L.Callback):
    """Prints the missing-frame error of interpolation and refinement by level after every validation in training."""

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return  # the last validation, of all clips, is in the summary
        table = Table(title=f"held-out clips after {trainer.global_step} steps (missing frames)")
        for heading in ("level", *(measure.heading for measure in FIGURES)):
            table.add_column(heading, justify="right")
        for name, cells in level_cells(trainer.callback_metrics).items():
            table.add_row(name, *cells)
        Console(markup=False, emoji=False).print(table)
