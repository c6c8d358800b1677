"""The forward pass of one of Wan's blocks, plain and compiled."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor, nn

from interp_refiner.model.backbone.recomputation import NoRecomputation, Recomputation, Runner, keep_all

SHAPES = 64  # sizes of clips, of batches, with and without gradients: each has a graph of its own

forward_below_hooks = WanTransformerBlock.forward


def run_block(block: nn.Module, *inputs: Any, runner: Runner = keep_all) -> Tensor:
    """A block's forward pass; what is compiled, so that recomputation is part of the compiled graph."""

    def forward(*inputs: Any) -> Tensor:
        return forward_below_hooks(block, *inputs)

    return runner(forward, *inputs)


def compiled_run_block(options: dict[str, Any]) -> Callable[..., Tensor]:
    """:func:`run_block`, compiled once for all blocks: their weights are inputs of one graph; a break in it raises."""
    # Splitting graphs at DDP's buckets is for models compiled as a whole, and fails on recomputation in the graph.
    torch._dynamo.config.optimize_ddp = False
    # Beyond torch's limit of 8 a graph that must be whole is an error, in the middle of an evaluation or a demo.
    torch._dynamo.config.recompile_limit = max(SHAPES, torch._dynamo.config.recompile_limit)
    return torch.compile(run_block, dynamic=False, fullgraph=True, options=options or None)


@dataclass(frozen=True)
class Blocks:
    """How the blocks of a transformer are computed; it stays the same network.

    Attributes:
        recomputation: what they keep for their backward pass.
        compile: they are compiled: one graph for all of them, for fixed shapes. Names of weights do not change.
    """

    recomputation: Recomputation = field(default_factory=NoRecomputation)
    compile: bool = False

    def forward(self, options: dict[str, Any]) -> Callable[..., Tensor]:
        """The forward pass of one block, compiled with these ``options`` where blocks are compiled."""
        return compiled_run_block(options) if self.compile else run_block
