"""How fast training goes, and how much of it is spent waiting for data."""

import time
from typing import Any

import lightning as L


class Throughput(L.Callback):
    """Samples a second over all ranks and the share of time spent waiting for the next batch.

    Waiting is from the end of one batch to the start of the next: reading, transfer and corruption. The first batches
    of a run are left out of the final figures, they hold one-off costs.

    Args:
        every_n_steps: how often the figures are logged.
        warmup_batches: batches left out.
    """

    def __init__(self, every_n_steps: int = 10, warmup_batches: int = 3):
        self.every_n_steps, self.warmup_batches = every_n_steps, warmup_batches
        self.samples, self.batches, self.waited, self.stepped = 0, 0, 0.0, 0.0
        self.mark: float | None = None

    @property
    def samples_per_second(self) -> float:
        """Over the run so far; 0 before the first counted batch."""
        total = self.waited + self.stepped
        return self.samples / total if total else 0.0

    @property
    def data_wait_share(self) -> float:
        """Share of training time spent waiting for data, 0..1."""
        total = self.waited + self.stepped
        return self.waited / total if total else 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.mark = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.mark = None  # time spent validating is neither waiting nor training

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if self.mark is not None and self.batches >= self.warmup_batches:
            self.waited += now - self.mark
        self.mark = now

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.batches += 1
        if self.mark is not None and self.batches > self.warmup_batches:
            self.stepped += now - self.mark
            self.samples += batch.clip.batch_size * trainer.world_size
        self.mark = now
        if self.batches % self.every_n_steps == 0 and self.samples:
            figures = {"samples_per_s": self.samples_per_second, "data_wait": self.data_wait_share}
            pl_module.log_dict(figures, prog_bar=True, rank_zero_only=True, batch_size=1)
