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
    """A mask function that is always True: the block lists are the whole mask. One function, so one compilation."""
    return query >= 0


def compiler_options(block_q: int, block_k: int) -> dict[str, Any]:
    """The compiler options that FlexAttention needs for these block sizes, for its graph only.

    torch's only default backward kernel for Hopper and Blackwell reads 128 keys at a time. For smaller blocks torch
    discards it before it reads ``kernel_options``, so the compiler must search for a kernel. Matrix products still use
    the library's kernels.
    """
    if min(block_q, block_k) >= DEFAULT_BLOCK:
        return {}
    return {"max_autotune": True, "max_autotune_gemm_backends": "ATEN"}


def flex_block_attention(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h l d"], v: Float[Tensor, "b h l d"], kept: KeptBlocks
) -> Float[Tensor, "b h n d"]:
    """``O_s``: softmax attention over the kept blocks, as part of the graph being compiled, else as a separate graph.

    Raises:
        BadValue: compilation is switched off.
    """
    inside = torch.compiler.is_dynamo_compiling()
    attend = compiled_only if inside else own_graph(kept.block_q, kept.block_k)
    return attend(q, k, v, block_mask(kept, q.shape[2]))


def compiled_only(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask) -> Tensor:
    """FlexAttention, for compiled code only: eager, it ignores the block lists and attends to every key."""
    if not torch.compiler.is_dynamo_compiling():
        allowed = (
            "compiled code: uncompiled it would attend densely. Is compilation switched off (TORCHDYNAMO_DISABLE,"
            " torch.compiler.set_stance, suppress_errors)? Exact without it, at small sizes: eager"
        )
        raise BadValue("backend", "flex", allowed)
    return flex_attention(q, k, v, block_mask=mask)


@cache
def own_graph(block_q: int, block_k: int) -> Callable[..., Tensor]:
    """:func:`compiled_only`, compiled as one graph; raises if that is impossible (on CPUs with gradients)."""
    options = compiler_options(block_q, block_k)
    return torch.compile(compiled_only, dynamic=False, fullgraph=True, options=options or None)


def block_mask(kept: KeptBlocks, num_queries: int) -> BlockMask:
    """The kept blocks as FlexAttention's mask, one per (batch, head).

    All blocks are *full*: no mask is evaluated, and the kernel's bounds cut off keys beyond the sequence. The forward
    pass reads the key blocks of every query block, the backward pass also the query blocks of every key block.
    :func:`listed` makes these lists without the sort in ``BlockMask.from_kv_blocks``.
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
    """The indices, padded to one column per key block: FlexAttention takes the number of key blocks from the shape."""
    return torch.nn.functional.pad(kept.index, (0, kept.num_key_blocks - kept.index.shape[3]))
