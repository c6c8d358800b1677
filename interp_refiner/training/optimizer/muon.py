"""Muon for the matrices of a network's blocks, AdamW for the rest, as one optimizer."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, choice
from interp_refiner.training.optimizer.optimizer import AdamW

PRECISIONS = ("float32", "bfloat16")


BLOCKS = {"blocks", "transformer_blocks"}  # names of the list of blocks in a network


def is_block_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon trains a parameter: a matrix inside a block. AdamW trains embeddings, heads, kernels and vectors.

    AdamW also trains the tables of shifts and scales named ``scale_shift_table`` (Wan, LTX). Tables named ``table``
    (convolutions, ``backbone=trajectory``) count as matrices.
    """
    return parameter.ndim == 2 and not name.endswith("scale_shift_table") and not BLOCKS.isdisjoint(name.split("."))


def orthogonalised(matrix: Float[Tensor, "m n"], dtype: torch.dtype, steps: int = 5) -> Float[Tensor, "m n"]:
    """Approximates ``U V^T`` of ``matrix = U S V^T``: singular values become 0.7 to 1.2 (Jordan et al. 2024).

    Newton-Schulz iterations ``X <- a X + (b G + c G^2) X`` with ``G = X X^T``, from ``X = matrix / |matrix|``. ``a`` is
    the slope at 0: small singular values, and their rounding errors, grow 3.4-fold per step.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).to(dtype)
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.T


class MatrixMuon(torch.optim.Muon):
    """torch's Muon with a choice of the precision of :func:`orthogonalised`; torch's own uses bfloat16.

    Args:
        dtype: of :func:`orthogonalised`.
        arguments: of ``torch.optim.Muon``.
    """

    def __init__(self, *arguments: Any, dtype: torch.dtype, **named: Any):
        super().__init__(*arguments, **named)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in (p for p in group["params"] if p.grad is not None):
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight.grad)
                mean = state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
                update = orthogonalised(weight.grad.lerp(mean, momentum), self.dtype)
                weight.mul_(1 - lr * group["weight_decay"])
                weight.add_(update, alpha=-lr * 0.2 * math.sqrt(max(weight.shape)))
        return loss


class Joined(torch.optim.Optimizer):
    """Joins optimizers over different parameters into one, with one list of groups and one state.

    Args:
        optimizers: the joined optimizers; they share their groups and state with this one, which calls their ``step``.
    """

    def __init__(self, *optimizers: torch.optim.Optimizer):
        self.optimizers = optimizers
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:  # load_state_dict makes new groups and state
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


@dataclass(eq=False)
class Muon(AdamW):
    """Muon (Jordan et al. 2024): the momentum of a matrix is orthogonalised by five Newton-Schulz iterations.

    Its updates are scaled to the size of AdamW's, ``0.2 sqrt(max(rows, columns))`` (Liu et al. 2025, arXiv
    2502.16982), so both share one learning rate. See :func:`is_block_matrix` for which weights it takes.

    Attributes:
        momentum: decay rate of Muon's (Nesterov) momentum.
        orthogonalised_in: ``float32`` gives the same result for any number of processes; ``bfloat16`` is several times
            faster on large matrices.

    Raises:
        BadValue: a setting out of range; on use, a module without a trained matrix in its blocks.
    """

    momentum: float = 0.95
    orthogonalised_in: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise BadValue("momentum", self.momentum, "a number from 0 to below 1")
        choice("orthogonalised_in", self.orthogonalised_in, PRECISIONS)

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        matrices = [p for name, p in trained if is_block_matrix(name, p)]
        if not matrices:  # otherwise AdamW alone would train, at Muon's learning rate
            allowed = "adamw, because no matrix inside the blocks of a network is trained"
            raise BadValue("optimizer", "muon", allowed)
        muon = MatrixMuon(
            matrices,
            dtype=getattr(torch, self.orthogonalised_in),
            lr=self.lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        taken = {id(p) for p in matrices}
        joined = Joined(muon, self.adamw(module, lambda p: id(p) not in taken))
        joined._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return joined
