"""Activation checkpointing: which activations a block saves for its backward pass (Chen et al. 2016)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from interp_refiner.core import non_negative

Runner = Callable[..., Tensor]


def keep_all(block: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Runs a block and keeps every activation."""
    return block(*inputs)


def keep_inputs(block: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Runs a block and keeps only its inputs; the backward pass runs the block again."""
    return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)  # blocks use no random numbers


def keep_products(block: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Runs a block and keeps matrix products and attention outputs; the backward pass recomputes the cheap rest."""
    return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=_selective_contexts)


def _selective_contexts() -> tuple[Any, Any]:
    return create_selective_checkpoint_contexts(_policy)


def _policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    kept = str(operator).partition(".default")[0] in EXPENSIVE
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


# By name, because the device, torch's version and installed packages determine which of them exist. topk is cheap, but
# it chooses the blocks of sparse attention, and a second choice could differ because of rounding.
EXPENSIVE = {
    "aten.mm",
    "aten.addmm",
    "aten.topk",
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
    """Which activations of a stack of blocks are kept. Has no state."""

    @abstractmethod
    def runners(self, num_blocks: int, bytes_per_block: int) -> list[Runner]:
        """The runner of each block in training, called as ``runner(block, *inputs)``.

        Args:
            num_blocks: blocks in the stack.
            bytes_per_block: bytes that :func:`keep_products` keeps per block.
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
    """Matrix products and attention outputs are kept, within a memory budget.

    Blocks beyond the budget keep only their inputs. These are the last blocks, because their backward pass comes first.

    Args:
        memory_gb: budget for all blocks together in 10^9 bytes; None for no limit.

    Raises:
        BadValue: a negative budget.
    """

    def __init__(self, memory_gb: float | None = None):
        if memory_gb is not None:
            non_negative("memory_gb", memory_gb, "in 10^9 bytes, or null for no limit")
        self.memory_gb = memory_gb

    def runners(self, num_blocks: int, bytes_per_block: int) -> list[Runner]:
        fit = num_blocks if self.memory_gb is None else min(num_blocks, int(1e9 * self.memory_gb // bytes_per_block))
        return [keep_products] * fit + [keep_inputs] * (num_blocks - fit)


def kept_bytes(batch: int, tokens: int, text_tokens: int, dim: int, ffn_dim: int, itemsize: int) -> int:
    """Bytes that :func:`keep_products` keeps in a Wan block, without its inputs and :meth:`Attention.kept_bytes`.

    Self-attention: queries, keys, values, output projection. Cross-attention: queries, attention output, output
    projection, and keys and values per text token. Feed-forward network: both products.
    """
    per_token = (4 + 3 + 1) * dim + ffn_dim
    return itemsize * batch * (tokens * per_token + text_tokens * 2 * dim)


# Bytes per token that autograd saves under bfloat16 autocast, uncompiled (a test compares them with autograd). In a
# block without recomputation: GRAPH per channel of its width, GRAPH_FFN per channel of its feed-forward width. Outside
# the blocks (mostly modulation): AROUND per channel of the width.
GRAPH, GRAPH_FFN, AROUND = 102, 4, 42


def activation_bytes(
    runners: Sequence[Runner], tokens: int, dim: int, ffn_dim: int, products: int, passes: int = 1
) -> int:
    """Peak bytes that a Wan training step keeps for its backward pass under bfloat16 autocast.

    A block with recomputation keeps its input and, depending on the runner, its products. During the backward pass one
    block at a time has its whole graph.

    Args:
        runners: runners of the blocks of all passes.
        tokens: number of tokens of all clips together.
        dim, ffn_dim: of a block.
        products: bytes that :func:`keep_products` keeps in one block.
        passes: forward passes before the backward pass.
    """
    graph, recomputed = tokens * (GRAPH * dim + GRAPH_FFN * ffn_dim), len(runners) - runners.count(keep_all)
    inputs = recomputed * 2 * tokens * dim  # bfloat16
    kept = inputs + runners.count(keep_products) * products + runners.count(keep_all) * graph
    return kept + (graph if recomputed else 0) + passes * AROUND * tokens * dim
