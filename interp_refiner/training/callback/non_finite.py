"""Skips optimizer steps whose loss or gradient is not finite."""

import logging
from typing import Any, final

import lightning as L
import torch
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted, Stopped

log = logging.getLogger(__name__)


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """The norm of all gradients; not finite if any element is not."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # sharded gradients


@final
class SkipNonFinite(L.Callback):
    """Skips optimizer steps whose loss or gradient is not finite, and stops a run that has too many in a row.

    A step is skipped on all processes by removing the gradients. Weights, moments and averages (EMA, the objective's
    ``V_s``) stay unchanged; the step counts, and the data stream advances. With accumulation, all micro-batches of the
    step are skipped. ``train/skipped_steps`` counts skipped steps.

    Args:
        patience: number of consecutive skipped steps after which the run stops.

    Attributes:
        skipped: number of skipped steps so far.

    Raises:
        Stopped: too many consecutive skipped steps; names the samples of the last one.
    """

    def __init__(self, patience: int = 10):
        if patience < 1:
            raise BadValue("patience", patience, "at least 1 step")
        self.patience, self.skipped, self.in_a_row = patience, 0, 0
        self.losses: list[Tensor] = []  # of this step's micro-batches, on their device
        self.keys: list[list[str]] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Corrupted, batch_idx: int
    ) -> None:
        self.keys.append(batch.clip.keys)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        self.losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        finite = torch.stack(self.losses).isfinite().all() & gradient_norm(optimizer).isfinite()
        if trainer.strategy.reduce_boolean_decision(bool(finite), all=True):
            self.in_a_row = 0
        else:
            self._skip(trainer, optimizer)
            pl_module.log("train/skipped_steps", float(self.skipped), batch_size=1)
        self.losses, self.keys = [], []

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]

    def _skip(self, trainer: L.Trainer, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        bad = [keys for keys, loss in zip(self.keys, self.losses, strict=True) if not loss.isfinite()]
        names = ", ".join(gathered(bad) or gathered(self.keys))  # no bad loss: a bad gradient, so all keys
        step = trainer.global_step + 1
        log.warning("step %d is skipped (%d so far): not finite; its samples: %s", step, self.skipped, names)
        if self.in_a_row >= self.patience:
            raise Stopped(
                f"loss or gradient not finite in {self.in_a_row} steps in a row, up to step {step}; "
                f"the samples of the last one: {names}"
            )


def gathered(batches: list[list[str]]) -> list[str]:
    """The sample keys of all processes; a collective operation if there are several processes."""
    everywhere = [batches]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        everywhere = everywhere * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everywhere, batches)
    return list(dict.fromkeys(key for part in everywhere for keys in part for key in keys))  # some share samples
