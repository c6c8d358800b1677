"""Activation checkpointing: what a block saves for its backward pass, and what it recomputes (Chen et al. 2016)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from interp_refiner.core import BadValue

Runner = Callable[..., Tensor]


def keep_all(block: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Runs a block that keeps every activation."""
    return block(*inputs)


def keep_inputs(block: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Runs a block that keeps its inputs only and runs again in its backward pass."""
    return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)  # blocks draw nothing


def keep_products(block: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Runs a block that keeps its matrix products and attention outputs and computes the cheap rest again."""
    return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=_selective_contexts)


def _selective_contexts() -> tuple[Any, Any]:
    return create_selective_checkpoint_contexts(_policy)


def _policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    kept = str(operator).partition(".default")[0] in EXPENSIVE
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


# By name: which of them exist depends on the device, the version of torch and the packages installed. topk and sort are
# cheap: they choose the blocks of sparse attention, and a choice made again after other rounding may be another one.
EXPENSIVE = {
    "aten.mm",
    "aten.addmm",
    "aten.topk",
    "aten.sort",
    "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention",
    "aten._scaled_dot_product_fused_attention_overrideable",
    "flex_attention",
    "flash_attn._flash_attn_forward",
    "_diffusers_flash_attn_3._flash_attn_forward",
    "interp_refiner.flash4",
}


class Recomputation(ABC):
    """How much of the activations of a stack of blocks is kept. Without state."""

    @abstractmethod
    def runners(self, num_blocks: int, bytes_per_block: int) -> list[Runner]:
        """How each block is run in training: ``runner(block, *inputs)``.

        Args:
            num_blocks: blocks in the stack.
            bytes_per_block: what :func:`keep_products` keeps in one of them.
        """


class NoRecomputation(Recomputation):
    """Every activation is kept."""

    def runners(self, num_blocks: int, bytes_per_block: int) -> list[Runner]:
        return [keep_all] * num_blocks


class FullRecomputation(Recomputation):
    """Only the inputs of a block are kept; its forward pass runs twice."""

    def runners(self, num_blocks: int, bytes_per_block: int) -> list[Runner]:
        return [keep_inputs] * num_blocks


class SelectiveRecomputation(Recomputation):
    """Matrix products and attention outputs are kept, within a budget of memory.

    Blocks beyond the budget keep their inputs only: the last ones, whose activations would live the shortest.

    Args:
        memory_gb: 10^9 bytes for what is kept in all blocks together; None for no limit.

    Raises:
        BadValue: a negative budget.
    """

    def __init__(self, memory_gb: float | None = None):
        if memory_gb is not None and not memory_gb >= 0:
            raise BadValue("memory_gb", memory_gb, "gigabytes >= 0, or null for no limit")
        self.memory_gb = memory_gb

    def runners(self, num_blocks: int, bytes_per_block: int) -> list[Runner]:
        fit = num_blocks if self.memory_gb is None else min(num_blocks, int(1e9 * self.memory_gb // bytes_per_block))
        return [keep_products] * fit + [keep_inputs] * (num_blocks - fit)


def kept_bytes(batch: int, tokens: int, text_tokens: int, dim: int, ffn_dim: int, itemsize: int) -> int:
    """What :func:`keep_products` keeps in a block of Wan, besides its inputs and what its self-attention says.

    Of self-attention queries, keys, values and the output projection; of cross-attention queries, attention and the
    output projection, with keys and values per text token; both products of the feed-forward network.
    """
    per_token = (4 + 3 + 1) * dim + ffn_dim
    return itemsize * batch * (tokens * per_token + text_tokens * 2 * dim)


# Bytes a token under bfloat16 autocast, uncompiled, by what autograd saves (a test holds them against it): of a block
# that keeps everything, by its width and that of its feed-forward network; and around the blocks, mostly modulation.
GRAPH, GRAPH_FFN, AROUND = 102, 4, 42


def activation_bytes(
    runners: Sequence[Runner], tokens: int, dim: int, ffn_dim: int, products: int, passes: int = 1
) -> int:
    """What a training step of a Wan keeps for its backward pass, at its most, under bfloat16 autocast.

    Every block that is run again keeps its input, and what its runner says; one of them at a time has its whole graph.

    Args:
        runners: of the blocks of all passes.
        tokens: of all clips together.
        dim, ffn_dim: of a block.
        products: what :func:`keep_products` keeps in one block.
        passes: forward passes before the backward pass.
    """
    graph, again = tokens * (GRAPH * dim + GRAPH_FFN * ffn_dim), len(runners) - runners.count(keep_all)
    kept = again * 2 * tokens * dim + runners.count(keep_products) * products + runners.count(keep_all) * graph
    return kept + (graph if again else 0) + passes * AROUND * tokens * dim
