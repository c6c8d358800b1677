"""Attention over kept blocks by FlexAttention: compiled Triton kernels, forward and backward, that skip the rest."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from interp_refiner.core import BadValue
from interp_refiner.model.attention.blocks import KeptBlocks, listed

DEFAULT_BLOCK = 128


def every_key(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """True: which blocks are read says everything. One function, so that nothing is compiled twice for its sake."""
    return query >= 0


def compiler_options(block_q: int, block_k: int) -> dict[str, Any]:
    """What compiling FlexAttention needs for blocks of these sizes, in that graph alone.

    The one backward kernel that torch has by default for Hopper and Blackwell reads 128 keys at a time, and is dropped
    for smaller blocks before ``kernel_options`` are looked at: there the compiler has to search. Matrix products stay
    with the library's kernels.
    """
    if min(block_q, block_k) >= DEFAULT_BLOCK:
        return {}
    return {"max_autotune": True, "max_autotune_gemm_backends": "ATEN"}


def flex_block_attention(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h l d"], v: Float[Tensor, "b h l d"], kept: KeptBlocks
) -> Float[Tensor, "b h n d"]:
    """``O_s``: softmax attention over the kept blocks, inside the graph that is being compiled, else as its own.

    Raises:
        BadValue: compilation is switched off.
    """
    inside = torch.compiler.is_dynamo_compiling()
    attend = compiled_only if inside else own_graph(kept.block_q, kept.block_k)
    return attend(q, k, v, block_mask(kept, q.shape[2]))


def compiled_only(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask) -> Tensor:
    """FlexAttention, never run by Python: there it evaluates its mask function alone, and would attend to every key."""
    if not torch.compiler.is_dynamo_compiling():
        allowed = (
            "compiled code: uncompiled it would attend densely. Is compilation switched off (TORCHDYNAMO_DISABLE,"
            " torch.compiler.set_stance, suppress_errors)? Exact without it, at small sizes: eager"
        )
        raise BadValue("backend", "flex", allowed)
    return flex_attention(q, k, v, block_mask=mask)


@cache
def own_graph(block_q: int, block_k: int) -> Callable[..., Tensor]:
    """:func:`compiled_only`, compiled as one graph; where that cannot be (on CPUs with gradients) it is an error."""
    options = compiler_options(block_q, block_k)
    return torch.compile(compiled_only, dynamic=False, fullgraph=True, options=options or None)


def block_mask(kept: KeptBlocks, num_queries: int) -> BlockMask:
    """The kept blocks as FlexAttention's mask, one per (batch, head).

    They are *full* blocks, for which no mask is evaluated; keys beyond the sequence in the last block are cut off by
    the kernel's own bounds. There are no partial blocks. The forward pass reads the key blocks of every query block,
    the backward pass also the query blocks of every key block; ``BlockMask.from_kv_blocks`` would sort to list these,
    see :func:`listed`.
    """
    index = padded_to_all_columns(kept)
    count = torch.full(index.shape[:3], kept.index.shape[3], dtype=torch.int32, device=index.device)
    query_count, query_index = listed(kept.mask.transpose(2, 3))
    return BlockMask(
        seq_lengths=(num_queries, kept.num_keys),
        kv_num_blocks=torch.zeros_like(count),
        kv_indices=torch.zeros_like(index),
        full_kv_num_blocks=count,
        full_kv_indices=index,
        q_num_blocks=torch.zeros_like(query_count),
        q_indices=torch.zeros_like(query_index),
        full_q_num_blocks=query_count,
        full_q_indices=query_index,
        BLOCK_SIZE=(kept.block_q, kept.block_k),
        mask_mod=every_key,
    )


def padded_to_all_columns(kept: KeptBlocks) -> Int[Tensor, "b h m blocks"]:
    """The indices with as many columns as there are key blocks: FlexAttention reads that number off their shape."""
    return torch.nn.functional.pad(kept.index, (0, kept.num_key_blocks - kept.index.shape[3]))
