"""Muon for the matrices of a network's blocks, AdamW for the rest, as one optimizer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from interp_refiner.core import BadValue
from interp_refiner.training.optimizer import AdamW


def is_block_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon takes it: a matrix inside a block. Embeddings, heads, kernels, tables and vectors are AdamW's."""
    return parameter.ndim == 2 and ".blocks." in f".{name}"


class Joined(torch.optim.Optimizer):
    """Several optimizers over different parameters, which look like one: one list of groups, one state.

    Args:
        optimizers: they share their groups and state with this one and are stepped by it.
    """

    def __init__(self, *optimizers: torch.optim.Optimizer):
        self.optimizers = optimizers
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:  # of load_state_dict, which makes new groups and state
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        start = 0
        for optimizer in self.optimizers:
            end = start + len(optimizer.param_groups)
            optimizer.param_groups, optimizer.state = self.param_groups[start:end], self.state
            start = end

    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure is not None else None
        for optimizer in self.optimizers:
            optimizer.step()
        return loss


class Muon(AdamW):
    """Muon (Jordan et al. 2024): the momentum of a matrix is orthogonalised by five Newton-Schulz iterations.

    Its updates are scaled to the size of AdamW's, ``0.2 sqrt(max(rows, columns))`` (Liu et al. 2025, arXiv
    2502.16982), so both share one learning rate. See :func:`is_block_matrix` for which weights it takes.

    Args:
        lr, weight_decay, warmup_steps, decay_share, final_share, betas: see :class:`AdamW`.
        momentum: decay rate of Muon's momentum, which is Nesterov's.
    """

    def __init__(
        self,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 100,
        decay_share: float = 0.5,
        final_share: float = 0.05,
        betas: Sequence[float] = (0.9, 0.99),
        momentum: float = 0.95,
    ):
        super().__init__(lr, weight_decay, warmup_steps, decay_share, final_share, betas)
        if not 0 <= momentum < 1:
            raise BadValue("momentum", momentum, "a number from 0 to below 1")
        self.momentum = momentum

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        matrices = [p for name, p in trained if is_block_matrix(name, p)]
        if not matrices:
            return super().optimizer(module)
        muon = torch.optim.Muon(
            matrices,
            lr=self.lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        taken = {id(p) for p in matrices}
        joined = Joined(muon, self.adamw(module, lambda p: id(p) not in taken))
        joined._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return joined
