"""FlashAttention-4 (the ``flash-attn-4`` package), dense or over kept blocks, as one operator with its backward pass.

The package's autograd function cannot be traced. As a custom operator it keeps a compiled block in one graph, and
selective recomputation can save its output. Written for ``flash_attn.cute.interface`` as of 4.0.0b36, with
``BlockSparseTensorsTorch`` of ``flash_attn.cute.block_sparsity``; layout ``[b, n, h, d]``.
"""

import importlib
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.model.attention.blocks import KeptBlocks, listed

BLOCKS = {9: (128, 128), 10: (256, 128)}  # (query, key) block sizes by major compute capability


def flash4_attention(
    q: Float[Tensor, "b n h d"], k: Float[Tensor, "b l h d"], v: Float[Tensor, "b l h d"]
) -> Float[Tensor, "b n h d"]:
    """Dense softmax attention."""
    return torch.ops.interp_refiner.flash4(q, k, v, None, None, None, 0, 0)[0]


def flash4_block_attention(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h l d"], v: Float[Tensor, "b h l d"], kept: KeptBlocks
) -> Float[Tensor, "b h n d"]:
    """``O_s``: softmax attention over the kept blocks.

    The forward pass takes the key blocks of every query block, the backward pass the query blocks of every key block.
    Both lists are ascending, because the kernel cuts off keys beyond the sequence only in the last block of a list. All
    blocks are full; the numbers of partially masked blocks are zero. Hopper takes blocks of 128 x 128, Blackwell of
    256 x 128.
    """
    count, index = listed(kept.mask.transpose(2, 3))
    sizes = kept.block_q, kept.block_k
    out = torch.ops.interp_refiner.flash4(*(x.transpose(1, 2) for x in (q, k, v)), kept.index, count, index, *sizes)
    return out[0].transpose(1, 2)


def check_flash4_blocks(capability: tuple[int, int], block_q: int, block_k: int) -> None:
    """Raises :class:`BadValue` for GPUs and block sizes without sparse kernels for both forward and backward."""
    major = capability[0]
    if major not in BLOCKS:
        raise BadValue("backend", "flash4", f"flex on compute capability {major}.{capability[1]}; flash4 has 9.x, 10.x")
    for name, block, needed in zip(("block_q", "block_k"), (block_q, block_k), BLOCKS[major], strict=True):
        if block != needed:
            raise BadValue(name, block, f"{needed} with backend=flash4 on compute capability {major}.{capability[1]}")


def _full_blocks(count: Tensor, index: Tensor, block_size: tuple[int, int]) -> Any:
    """The package's block lists, with full blocks only."""
    tensors = importlib.import_module("flash_attn.cute.block_sparsity").BlockSparseTensorsTorch
    return tensors(
        mask_block_cnt=torch.zeros_like(count),
        mask_block_idx=torch.zeros_like(index),
        full_block_cnt=count.contiguous(),
        full_block_idx=index.contiguous(),
        block_size=block_size,
    )


@torch.library.custom_op("interp_refiner::flash4", mutates_args=())
def _flash4(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    keys: torch.Tensor | None,
    query_count: torch.Tensor | None,
    queries: torch.Tensor | None,
    block_q: int,
    block_k: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    blocks = None
    if keys is not None:
        count = torch.full(keys.shape[:3], keys.shape[3], dtype=torch.int32, device=keys.device)
        blocks = _full_blocks(count, keys, (block_q, block_k))
    interface = importlib.import_module("flash_attn.cute.interface")
    q, k, v = (x.contiguous() for x in (q, k, v))
    found = interface._flash_attn_fwd(q, k, v, causal=False, block_sparse_tensors=blocks, return_lse=True)
    return found[0], found[1]


@_flash4.register_fake
def _(q, k, v, keys, query_count, queries, block_q, block_k):  # type: ignore[no-untyped-def]
    b, n, h, _ = q.shape
    return torch.empty_like(q, memory_format=torch.contiguous_format), q.new_empty(b, h, n, dtype=torch.float32)


@torch.library.custom_op("interp_refiner::flash4_backward", mutates_args=())
def _flash4_backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    grad: torch.Tensor,
    query_count: torch.Tensor | None,
    queries: torch.Tensor | None,
    block_q: int,
    block_k: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    blocks = None
    if query_count is not None and queries is not None:
        blocks = _full_blocks(query_count, queries, (block_q, block_k))
    interface = importlib.import_module("flash_attn.cute.interface")
    q, k, v, out, grad = (x.contiguous() for x in (q, k, v, out, grad))
    dq, dk, dv = interface._flash_attn_bwd(q, k, v, out, grad, lse, causal=False, block_sparse_tensors=blocks)[:3]
    return dq, dk, dv


@_flash4_backward.register_fake
def _(q, k, v, out, lse, grad, query_count, queries, block_q, block_k):  # type: ignore[no-untyped-def]
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))


def _keep(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    q, k, v, _, query_count, queries, *ctx.sizes = inputs
    ctx.save_for_backward(q, k, v, *output, query_count, queries)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, grad: Tensor, _: Any) -> tuple:
    q, k, v, out, lse, query_count, queries = ctx.saved_tensors
    operator = torch.ops.interp_refiner.flash4_backward
    gradients = operator(q, k, v, out, lse, grad, query_count, queries, *ctx.sizes)
    return (*gradients, None, None, None, None, None)


_flash4.register_autograd(_differentiate, setup_context=_keep)
