"""Measures the time of a training step and of its parts, in a real training run."""

from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any, final

import lightning as L
import torch
from lightning.pytorch.profilers import Profiler

from interp_refiner.core import BadValue, Corrupted, Mark, at_least, forget_peak_memory, peak_flops, peak_memory
from interp_refiner.training import Refiner

# Lightning's names for the actions of a step in its profilers. Actions can be nested.
READING = ".train_dataloader_next"
TO_DEVICE = ".batch_to_device"
CORRUPTION = ".on_after_batch_transfer"
FORWARD = "Strategy.training_step"
BACKWARD = "Strategy.backward"
OPTIMIZER = ".optimizer_step"
AVERAGE = "EMA.on_train_batch_end"
ACTIONS = (READING, TO_DEVICE, CORRUPTION, FORWARD, BACKWARD, OPTIMIZER, AVERAGE)

MakeTrainer = Callable[..., L.Trainer]


@final
class StepProfiler(Profiler):
    """Times Lightning's actions on the device, on a GPU by CUDA events and without a host sync.

    Args:
        device: of the run.
    """

    def __init__(self, device: torch.device):
        super().__init__()
        self.device = device
        self.begun: dict[str, Mark] = {}
        self.steps: list[tuple[Mark, dict[str, tuple[Mark, Mark]]]] = []

    def start(self, action_name: str) -> None:
        action = _known(action_name)
        if action is None:
            return
        self.begun[action] = Mark(self.device)
        if action == READING:
            self.steps.append((self.begun[action], {}))

    def stop(self, action_name: str) -> None:
        action = _known(action_name)
        if action is not None and action in self.begun and self.steps:
            self.steps[-1][1][action] = (self.begun.pop(action), Mark(self.device))

    def seconds(self, warmup: int) -> list[dict[str, float]]:
        """Seconds of every complete step after the first ``warmup``, and of its non-overlapping parts."""
        pairs = zip(self.steps[warmup:], self.steps[warmup + 1 :], strict=False)
        return [_parts(start, end, actions) for (start, actions), (end, _) in pairs]


def _known(action_name: str) -> str | None:
    return next((action for action in ACTIONS if action_name.endswith(action)), None)


def _parts(start: Mark, end: Mark, actions: dict[str, tuple[Mark, Mark]]) -> dict[str, float]:
    spent: defaultdict[str, float] = defaultdict(float)
    spent.update({action: begun.seconds_until(ended) for action, (begun, ended) in actions.items()})
    parts = {
        "data": spent[READING] + spent[TO_DEVICE] - spent[CORRUPTION],
        "corruption": spent[CORRUPTION],
        "forward": spent[FORWARD],
        "backward": spent[BACKWARD],
        "optimizer": spent[OPTIMIZER] - spent[FORWARD] - spent[BACKWARD],  # it includes both
        "average": spent[AVERAGE],
    }
    step = start.seconds_until(end)
    return {"step": step, **parts, "other": step - sum(parts.values())}


@final
class _Batch(L.Callback):
    """Keeps the size of a batch."""

    samples, tokens, flops = 0, 0, 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Corrupted, batch_idx: int
    ) -> None:
        if isinstance(pl_module, Refiner) and not self.samples:
            self.samples = batch.clip.batch_size
            self.tokens = self.samples * (pl_module.backbone.tokens(batch.x.shape[1:]) or 0)
            self.flops = pl_module.step_flops(batch) or 0.0


@final
class StepBenchmark:
    """Measures median milliseconds of a training step and of its parts, by a fit of the run that the config describes.

    It uses the real training: Lightning's trainer runs the module, its optimizer, the callbacks and the data module,
    and its profiler records when each of them begins and ends.

    Args:
        steps: number of measured steps.
        warmup: number of steps before the measured ones; they include compilation.
        peak_tflops: peak of the device in 10^12 operations per second; None looks up the device's name.

    Raises:
        BadValue: fewer than one step.
    """

    def __init__(self, steps: int = 20, warmup: int = 5, peak_tflops: float | None = None):
        at_least(1, steps=steps, warmup=warmup)
        self.steps, self.warmup, self.peak_tflops = steps, warmup, peak_tflops

    def measure(self, module: Refiner, data: L.LightningDataModule, make_trainer: MakeTrainer) -> dict[str, Any]:
        """The measurements of a fit; memory in 10^9 bytes, MFU relative to the device's bfloat16 peak.

        Raises:
            BadValue: gradient accumulation is on.
        """
        trainer = make_trainer(max_steps=self.warmup + self.steps + 1)  # one more: its start ends the last one
        if (batches := trainer.accumulate_grad_batches) != 1:
            raise BadValue("trainer.accumulate_grad_batches", batches, "1: a step is timed from one batch to the next")
        device, batch = trainer.strategy.root_device, _Batch()
        profiler = trainer.profiler = StepProfiler(device)  # type: ignore[attr-defined]
        trainer.callbacks.append(batch)  # type: ignore[attr-defined]
        forget_peak_memory(device)
        trainer.fit(module, datamodule=data)
        seconds = profiler.seconds(self.warmup)
        parts = {name: median(step[name] for step in seconds) for name in seconds[0]}
        step = parts.pop("step")
        peak = 1e12 * self.peak_tflops if self.peak_tflops is not None else peak_flops(device)
        rate = batch.flops / step
        return {
            "parameters": sum(p.numel() for p in module.parameters()),
            "precision": trainer.precision,
            "batch_size": batch.samples,
            "tokens": batch.tokens,
            "steps": len(seconds),
            "step_ms": 1e3 * step,
            "slowest_step_ms": 1e3 * max(s["step"] for s in seconds),
            "parts_ms": {name: 1e3 * value for name, value in parts.items()},
            "corruption_share": parts["corruption"] / step,
            "samples_per_s": batch.samples / step,
            "tflop": batch.flops / 1e12,
            "tflops_per_s": rate / 1e12,
            "mfu": rate / peak if peak is not None else None,
            "peak_memory_gb": peak_memory(device) / 1e9,
            "generated_kernels": generated_kernels(),
            "kernels": module.backbone.kernels(),
        }


def generated_kernels() -> int:
    """The number of kernels that the compiler has generated in this process (fused norms, gates and rotations)."""
    from torch._inductor import metrics  # takes seconds to import

    return metrics.generated_kernel_count
