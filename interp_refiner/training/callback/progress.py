"""One progress bar over the whole run, in optimizer steps."""

import sys
import time
from typing import Any

import lightning as L
from tqdm import tqdm

SHOWN = {
    "train/loss": "loss",
    "val/mean/ratio": "val ratio",
    "samples_per_s": "samples/s",
    "data_wait": "data wait",
    "mfu": "MFU",
    "tflops_per_s": "TFLOP/s",
    "peak_memory_gb": "GB",
    "latent_frames_per_s": "frames/s",
    "tokens_per_s": "tokens/s",
}


class Progress(L.pytorch.callbacks.ProgressBar):
    """A bar of optimizer steps with the loss, the last validation's ratio, and the figures of :class:`Throughput`.

    The data stream has no epochs, so the bar counts towards ``trainer.max_steps``. In a file or a pipe, the bar is
    written only every ten seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.training: tqdm | None = None
        self.validation: tqdm | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        total = trainer.max_steps if trainer.max_steps > 0 else None
        self.training = self._bar("training", total, initial=trainer.global_step, unit="step")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.training is None:
            return
        bar = self.training  # only on rank zero, because reading a figure waits for the GPU
        if not bar.disable and time.time() - bar.last_print_t >= bar.mininterval:
            metrics = trainer.callback_metrics
            shown = {label: f"{float(metrics[name]):.3g}" for name, label in SHOWN.items() if name in metrics}
            bar.set_postfix(shown, refresh=False)
        bar.update(trainer.global_step - bar.n)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._close()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        batches = sum(trainer.num_val_batches)
        self.validation = self._bar("validation", batches, leave=False, unit="batch")

    def on_validation_batch_end(self, *_: Any) -> None:
        if self.validation is not None:
            self.validation.update()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.validation is not None:
            self.validation.close()

    def _bar(self, name: str, total: int | float | None, **options: Any) -> tqdm:
        pause = 0.2 if sys.stderr.isatty() else 10.0
        return tqdm(
            total=total, desc=name, mininterval=pause, disable=not self.is_enabled, dynamic_ncols=True, **options
        )

    def _close(self) -> None:
        for bar in (self.validation, self.training):
            if bar is not None:
                bar.close()

    @property
    def is_enabled(self) -> bool:
        return getattr(self, "_enabled", True)

    def disable(self) -> None:
        """Called by Lightning on every rank but zero."""
        self._enabled = False
