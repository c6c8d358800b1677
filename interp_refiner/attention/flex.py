"""Attention over kept blocks by FlexAttention: compiled Triton kernels, forward and backward, that skip the rest."""

import torch
import torch._inductor.config
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from interp_refiner.attention.blocks import KeptBlocks

DEFAULT_BLOCK = 128

# Uncompiled, FlexAttention evaluates the mask function alone and would attend densely: it is never called so, and a
# graph break inside it is an error.
_compiled_flex = torch.compile(flex_attention, dynamic=False, fullgraph=True)


def every_key(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """True: which blocks are read says everything. One function, so that nothing is compiled twice for its sake."""
    return query >= 0


def tune_small_blocks() -> None:
    """Lets the compiler search kernels for blocks below 128 tokens: the defaults for Hopper and Blackwell have none.

    For this process; matrix products stay with the library's kernels.
    """
    torch._inductor.config.max_autotune = True
    torch._inductor.config.max_autotune_gemm_backends = "ATEN"


def flex_block_attention(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h l d"], v: Float[Tensor, "b h l d"], kept: KeptBlocks
) -> Float[Tensor, "b h n d"]:
    """``O_s``: softmax attention over the kept blocks."""
    attend = flex_attention if torch.compiler.is_compiling() else _compiled_flex
    return attend(q, k, v, block_mask=block_mask(kept, q.shape[2]))


def block_mask(kept: KeptBlocks, num_queries: int) -> BlockMask:
    """The kept blocks as FlexAttention's mask, one per (batch, head).

    They are *full* blocks, for which no mask is evaluated; keys beyond the sequence in the last block are cut off by
    the kernel's own bounds. There are no partial blocks.
    """
    index = padded_to_all_columns(kept)
    count = torch.full(index.shape[:3], kept.index.shape[3], dtype=torch.int32, device=index.device)
    return BlockMask.from_kv_blocks(
        kv_num_blocks=torch.zeros_like(count),
        kv_indices=torch.zeros_like(index),
        full_kv_num_blocks=count,
        full_kv_indices=index,
        BLOCK_SIZE=(kept.block_q, kept.block_k),
        mask_mod=every_key,
        seq_lengths=(num_queries, kept.num_keys),
    )


def padded_to_all_columns(kept: KeptBlocks) -> Int[Tensor, "b h m blocks"]:
    """The indices with as many columns as there are key blocks: FlexAttention reads that number off their shape."""
    return torch.nn.functional.pad(kept.index, (0, kept.num_key_blocks - kept.index.shape[3]))
