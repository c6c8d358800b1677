"""The forward pass of one of Wan's blocks, plain and compiled."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor, nn

from interp_refiner.model.backbone.recomputation import NoRecomputation, Recomputation, Runner, keep_all

SHAPES = 64  # largest number of graphs: one per clip size, batch size, and with or without gradients

forward_below_hooks = WanTransformerBlock.forward


def run_block(block: nn.Module, *inputs: Any, runner: Runner = keep_all) -> Tensor:
    """A block's forward pass. This function is compiled, so that recomputation is part of the compiled graph."""

    def forward(*inputs: Any) -> Tensor:
        return forward_below_hooks(block, *inputs)

    return runner(forward, *inputs)


def compiled_run_block(options: dict[str, Any]) -> Callable[..., Tensor]:
    """:func:`run_block`, compiled once for all blocks: weights are inputs of the graph; a graph break raises."""
    # Splitting graphs at DDP's buckets is meant for models compiled as a whole, and fails with recomputation.
    torch._dynamo.config.optimize_ddp = False
    # With fullgraph=True, torch raises if it exceeds its limit of 8 graphs, for example in the middle of an evaluation.
    torch._dynamo.config.recompile_limit = max(SHAPES, torch._dynamo.config.recompile_limit)
    return torch.compile(run_block, dynamic=False, fullgraph=True, options=options or None)


@dataclass(frozen=True)
class Blocks:
    """How the blocks of a transformer are computed; the results are the same.

    Attributes:
        recomputation: which activations blocks keep for their backward pass.
        compile: whether to compile the blocks: one graph for all, for fixed shapes. Names of weights do not change.
    """

    recomputation: Recomputation = field(default_factory=NoRecomputation)
    compile: bool = False

    def forward(self, options: dict[str, Any]) -> Callable[..., Tensor]:
        """The forward pass of one block; with ``compile``, compiled with these ``options``."""
        return compiled_run_block(options) if self.compile else run_block
