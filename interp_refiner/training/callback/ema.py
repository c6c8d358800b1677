"""Exponential moving average of the weights, in float32."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from interp_refiner.core import AVERAGED, BadValue
from interp_refiner.training.optimizer import steps


class EMA(L.Callback):
    """Keeps ``average <- d average + (1 - d) weight`` with ``d = min(decay, (1 + n) / (10 + n))`` at optimizer step n.

    The average is always float32: in bfloat16 with a decay of 0.999, rounding would keep it constant. Validation and
    prediction use it. Checkpoints contain it under ``ema_state_dict``, in addition to the raw weights.

    Args:
        decay: largest d.

    Raises:
        BadValue: a decay outside [0, 1).
    """

    def __init__(self, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise BadValue("decay", decay, "a number from 0 to below 1")
        self.decay = decay
        self.steps = 0
        self.average: dict[str, Tensor] = {}
        self.raw: list[tuple[Tensor, Tensor]] = []  # weights that currently hold the average, and their raw values

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        weights = _weights(pl_module)
        if not self.average:
            self.average = {name: weight.detach().float().clone() for name, weight in weights.items()}
        self.average = {name: value.to(weights[name].device) for name, value in self.average.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step <= self.steps:  # accumulating: no optimizer step in this batch
            return
        self.steps = trainer.global_step
        if not any(steps(optimizer) for optimizer in trainer.optimizers):  # skipped step: no weight has changed
            return
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        weights = _weights(pl_module)
        averages = [self.average[name] for name in weights]
        torch._foreach_lerp_(averages, [weight.detach().float() for weight in weights.values()], 1 - decay)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._swap_in(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._swap_out()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._swap_in(pl_module)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._swap_out()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._swap_out()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[AVERAGED] = self.average

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.average = {name: value.float().clone() for name, value in checkpoint.get(AVERAGED, {}).items()}
        self.steps = checkpoint["global_step"]

    @torch.no_grad()
    def _swap_in(self, pl_module: L.LightningModule) -> None:
        if not self.average:
            return
        for name, weight in _weights(pl_module).items():
            self.raw.append((weight, weight.detach().clone()))
            weight.copy_(self.average[name])

    @torch.no_grad()
    def _swap_out(self) -> None:
        for weight, value in self.raw:  # not the module's tensors: under sharding, these may now be gathered copies
            weight.copy_(value)
        self.raw = []


def _weights(module: L.LightningModule) -> dict[str, torch.nn.Parameter]:
    """Trainable parameters by name, in the module's order."""
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
