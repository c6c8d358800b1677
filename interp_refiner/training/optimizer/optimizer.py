"""Optimizers with parameter groups and a learning-rate schedule."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from interp_refiner.core import BadValue


def parameter_groups(
    module: nn.Module, weight_decay: float, takes: Callable[[nn.Parameter], bool] = lambda p: True
) -> list[dict[str, Any]]:
    """Two groups of the trained parameters that ``takes`` accepts.

    Weight decay applies to matrices, convolution kernels and parameters named ``table`` (shifts and scales of
    convolutions and of ``backbone=trajectory``), not to vectors (biases, norms) and ``scale_shift_table`` (Wan, LTX).
    """
    trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad and takes(p)]
    decayed = [p for name, p in trained if p.ndim >= 2 and not name.endswith("scale_shift_table")]
    plain = [p for name, p in trained if p.ndim < 2 or name.endswith("scale_shift_table")]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def steps(optimizer: torch.optim.Optimizer) -> bool:
    """Whether any parameter has a gradient. A step is skipped by removing all gradients."""
    return any(p.grad is not None for group in optimizer.param_groups for p in group["params"])


class Schedule(torch.optim.lr_scheduler.LambdaLR):
    """``lr = base_lr * factor(step)``; keeps this run's settings when a saved state is loaded.

    A saved state contains the settings of its run. torch would replace this run's settings by them, for example
    ``ckpt_path=... optimizer.lr=1e-5``. Here only the moments and the step are loaded.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, factor: Callable[[int], float]):
        super().__init__(optimizer, factor)
        settings = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]

        def keep_settings(loaded: torch.optim.Optimizer) -> None:
            for group, own in zip(loaded.param_groups, settings, strict=True):
                group.update(own)

        optimizer.register_load_state_dict_post_hook(keep_settings)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "base_lrs": self.base_lrs})
        self._last_lr = [
            base * factor(self.last_epoch) for base, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


@dataclass(eq=False)
class OptimizerRecipe(ABC):
    """An optimizer and its schedule: linear warm-up, constant, then cosine decay over the last part.

    Attributes:
        lr: peak learning rate.
        weight_decay: decoupled weight decay, for the first of :func:`parameter_groups`.
        warmup_steps: number of optimizer steps from 0 to ``lr``.
        decay_share: share of all steps, at the end, in which the rate decays.
        final_share: final learning rate in units of ``lr``.

    Raises:
        BadValue: a value out of its range.
    """

    lr: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 100
    decay_share: float = 0.5
    final_share: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise BadValue("lr", self.lr, "a learning rate > 0")
        if not 0 <= self.weight_decay < math.inf:
            raise BadValue("weight_decay", self.weight_decay, "a number >= 0")
        if self.warmup_steps < 0:
            raise BadValue("warmup_steps", self.warmup_steps, "a number of steps >= 0")
        if not 0 <= self.decay_share <= 1:
            raise BadValue("decay_share", self.decay_share, "a share of the run from 0 to 1")
        if not 0 <= self.final_share <= 1:
            raise BadValue("final_share", self.final_share, "a share of lr from 0 to 1")

    @abstractmethod
    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimizer over the module's trainable parameters."""

    def factor(self, step: int, max_steps: int) -> float:
        """The learning rate at ``step`` in units of ``lr``; ``max_steps < 0`` means no end and no decay."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        decay_steps = self.decay_share * max_steps
        if max_steps < 0 or decay_steps == 0:
            return warm
        done = min(1.0, max(0.0, (step - (max_steps - decay_steps)) / decay_steps))
        return warm * (self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * done)))

    def configure(self, module: nn.Module, max_steps: int) -> dict[str, Any]:
        """The return value of ``LightningModule.configure_optimizers``; the schedule counts optimizer steps."""
        optimizer = self.optimizer(module)
        schedule = Schedule(optimizer, lambda step: self.factor(step, max_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@dataclass(eq=False)
class AdamW(OptimizerRecipe):
    """AdamW (Loshchilov & Hutter 2019), fused.

    Attributes:
        betas: decay rates of the two moments.
    """

    betas: Sequence[float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise BadValue("betas", list(self.betas), "two numbers from 0 to below 1")

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        return self.adamw(module)

    def adamw(self, module: nn.Module, takes: Callable[[nn.Parameter], bool] = lambda p: True) -> torch.optim.AdamW:
        """AdamW over the trained parameters that ``takes`` accepts."""
        groups = parameter_groups(module, self.weight_decay, takes)
        first, second = map(float, self.betas)  # PyTorch does not accept integers
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(first, second), fused=True)
        # Only float16 needs unscaling inside a fused step; Lightning would refuse gradient clipping because of it.
        optimizer._step_supports_amp_scaling = False
        return optimizer
