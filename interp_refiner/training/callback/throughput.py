"""Logs training speed, device utilisation, and time spent waiting for data."""

from typing import Any, final

import lightning as L

from interp_refiner.core import Corrupted, Mark, at_least, forget_peak_memory, peak_flops, peak_memory, positive
from interp_refiner.training import BackboneModule


@final
class Throughput(L.Callback):
    """Samples, latent frames, tokens and operations per second over all ranks, MFU, peak memory and data wait.

    MFU is the model's operations per second relative to the device's peak, see
    :mod:`interp_refiner.model.attention.flops`. Data wait is the device's time from the end of one batch to the start
    of the next: reading, transfer and corruption. The first batches of a run are left out because of one-time costs.

    Args:
        every_n_steps: logging interval.
        warmup_batches: number of batches left out.
        peak_tflops: peak of one device in 10^12 operations per second; None: looked up by the device's name. If the
            device is unknown, MFU is left out.

    Raises:
        BadValue: ``every_n_steps`` below 1, or ``peak_tflops`` not above 0.
    """

    def __init__(self, every_n_steps: int = 10, warmup_batches: int = 3, peak_tflops: float | None = None):
        at_least(1, every_n_steps=every_n_steps)
        if peak_tflops is not None:
            positive("peak_tflops", peak_tflops, "or null to look the device up")
        self.every_n_steps, self.warmup_batches, self.peak_tflops = every_n_steps, warmup_batches, peak_tflops
        self.samples, self.frames, self.tokens, self.flops = 0, 0, 0, 0.0
        self.batches, self.waited, self.stepped, self.memory = 0, 0.0, 0.0, 0
        self.peak: float | None = None  # of all ranks together
        self.ended: Mark | None = None  # the last batch
        self.started: Mark | None = None  # this batch
        self.pending: list[tuple[Mark, Mark, Mark]] = []  # batches whose times are not read yet

    @property
    def seconds(self) -> float:
        """Seconds of the batches counted so far."""
        self._read_times()
        return self.waited + self.stepped

    @property
    def samples_per_second(self) -> float:
        """Over the run so far; 0 before the first counted batch."""
        return self._a_second(self.samples)

    @property
    def data_wait_share(self) -> float:
        """Share of training time spent waiting for data, 0..1."""
        total = self.seconds
        return self.waited / total if total else 0.0

    def figures(self) -> dict[str, float]:
        """Averages over the run so far: rates per second, shares in 0..1, memory in 10^9 bytes.

        Tokens, operations and MFU are left out if the backbone or the device does not provide them.
        """
        flops_per_second = self._a_second(self.flops)
        found = {
            "samples_per_s": self.samples_per_second,
            "latent_frames_per_s": self._a_second(self.frames),
            "tokens_per_s": self._a_second(self.tokens) or None,
            "tflops_per_s": flops_per_second / 1e12 or None,
            "mfu": flops_per_second / self.peak if self.peak and flops_per_second else None,
            "data_wait": self.data_wait_share,
            "peak_memory_gb": self.memory / 1e9,
        }
        return {name: value for name, value in found.items() if value is not None}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        peak = 1e12 * self.peak_tflops if self.peak_tflops is not None else peak_flops(pl_module.device)
        self.peak = peak * trainer.world_size if peak is not None else None
        forget_peak_memory(pl_module.device)
        self.ended = Mark(pl_module.device)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.ended = None  # time spent validating is neither waiting nor training

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.ended = None  # nor is time spent writing

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.started = Mark(pl_module.device)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Corrupted, batch_idx: int
    ) -> None:
        now = Mark(pl_module.device)
        self.batches += 1
        if self.started is not None and self.batches > self.warmup_batches:
            self.pending.append((self.ended or self.started, self.started, now))
            self._count(batch, pl_module, num_replicas(trainer))
        self.ended = now
        if self.batches % self.every_n_steps == 0 and self.samples:
            self.memory = peak_memory(pl_module.device)
            pl_module.log_dict(self.figures(), prog_bar=True, rank_zero_only=True, batch_size=1)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.memory = peak_memory(pl_module.device)

    def _count(self, batch: Corrupted, module: L.LightningModule, replicas: int) -> None:
        samples = batch.clip.batch_size * replicas
        self.samples += samples
        self.frames += samples * batch.clip.num_frames
        if isinstance(module, BackboneModule):
            self.tokens += samples * (module.backbone.tokens(module.seen_shape(batch)[1:]) or 0)
            self.flops += replicas * (module.step_flops(batch) or 0.0)

    def _read_times(self) -> None:
        """Adds the times of all pending batches; on a GPU this waits for the last batch, so not at every step."""
        for ended, started, now in self.pending:
            self.waited += ended.seconds_until(started)
            self.stepped += started.seconds_until(now)
        self.pending = []

    def _a_second(self, count: int | float) -> float:
        total = self.seconds
        return count / total if total else 0.0


def num_replicas(trainer: L.Trainer) -> int:
    """The number of processes, or of groups of processes that share clips, that see different samples."""
    return getattr(trainer.strategy, "distributed_sampler_kwargs", {"num_replicas": 1})["num_replicas"]
