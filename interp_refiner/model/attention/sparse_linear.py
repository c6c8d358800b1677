"""Sparse-linear attention: softmax over the most important key blocks, linear attention over all tokens."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, choice
from interp_refiner.model.attention.attention import Attention, AttentionLayer, Workload
from interp_refiner.model.attention.backends import AUTO, check_backend, on_tensor_cores
from interp_refiner.model.attention.blocks import KeptBlocks, block_attention, choose_blocks, num_blocks, num_kept
from interp_refiner.model.attention.dense import DenseLayer, softmax_bytes
from interp_refiner.model.attention.flash4 import check_flash4_blocks, flash4_block_attention
from interp_refiner.model.attention.flex import compiler_options, flex_block_attention
from interp_refiner.model.attention.flops import Flops, attention_flops, linear_flops
from interp_refiner.model.attention.tiles import TokenOrder, tiled

KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor, KeptBlocks], Tensor]] = {
    "eager": block_attention,
    "flex": flex_block_attention,
    "flash4": flash4_block_attention,
}


def linear_attention(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h l d"], v: Float[Tensor, "b h l d"]
) -> Float[Tensor, "b h n d"]:
    """``O_l = phi(q) (phi(k)^T v) / (1e-5 + phi(q) sum phi(k))`` with ``phi`` the softmax over the head dimension."""
    phi_q, phi_k = q.softmax(3).to(q.dtype), k.softmax(3).to(k.dtype)
    weight = phi_q @ phi_k.sum(2).unsqueeze(3)
    return phi_q @ (phi_k.transpose(2, 3) @ v) / (1e-5 + weight)


class SparseLinearLayer(AttentionLayer):
    """``O = O_s + proj(O_l)``; ``proj`` is a matrix shared by all heads, zero at the start.

    ``proj`` has no bias: the output projection that follows has one.

    Args:
        ratio, block_q, block_k, backend: see :class:`SparseLinear`.
        head_dim: d.
    """

    def __init__(self, ratio: float, block_q: int, block_k: int, backend: str, head_dim: int):
        super().__init__()
        self.ratio, self.block_q, self.block_k, self.backend = ratio, block_q, block_k, backend
        self.chosen = "eager"
        self.proj = nn.Linear(head_dim, head_dim, bias=False, dtype=torch.float32)
        nn.init.zeros_(self.proj.weight)

    def prepare(self, work: Workload) -> None:
        on_gpu = work.device.type == "cuda"
        if not on_gpu and self.backend in ("flex", "flash4"):
            raise BadValue("backend", self.backend, f"eager or auto on {work.device.type}")
        self.chosen = ("flex" if on_gpu else "eager") if self.backend == AUTO else self.backend
        if self.chosen == "flash4":
            if not on_tensor_cores(work):
                raise BadValue("backend", "flash4", f"flex or auto in {work.dtype}; flash4 is for bfloat16 or float16")
            check_flash4_blocks(torch.cuda.get_device_capability(work.device), self.block_q, self.block_k)

    def forward(
        self, q: Float[Tensor, "b n h d"], k: Float[Tensor, "b l h d"], v: Float[Tensor, "b l h d"]
    ) -> Float[Tensor, "b n h d"]:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        kept = choose_blocks(q, k, self.ratio, self.block_q, self.block_k)
        sparse = KERNELS[self.chosen](q, k, v, kept)
        linear = nn.functional.linear(linear_attention(q, k, v), self.proj.weight.to(q.dtype))
        return (sparse + linear.to(sparse.dtype)).transpose(1, 2)


class SparseLinear(Attention):
    """SLA (Zhang et al. 2025, arXiv 2509.24006), exact, see docs/method.md, Sparse-linear attention.

    Args:
        ratio: share of key blocks that every query block keeps.
        block_q, block_k: tokens of a block of queries and of keys.
        tile: frames, rows and columns of a tile in the token order; None for raster order.
        backend: ``auto`` (flex on CUDA, else eager), ``flex``, ``flash4``, or ``eager`` (a full score matrix).
        cross_backend: backend of attention from tokens to text, as for :class:`Dense`.

    Raises:
        BadValue: a ratio outside 0..1, an unsupported block size, an invalid tile, no such backend.
        MissingExtra: the backend's package is not installed.
    """

    def __init__(
        self,
        ratio: float = 0.1,
        block_q: int = 128,
        block_k: int = 128,
        tile: Sequence[int] | None = (4, 8, 4),
        backend: str = AUTO,
        cross_backend: str = AUTO,
    ):
        if not 0 < ratio <= 1:
            raise BadValue("ratio", ratio, "a share above 0, up to 1")
        for name, block in (("block_q", block_q), ("block_k", block_k)):
            if block < 1 or block & (block - 1):
                raise BadValue(name, block, "a power of two")
        if tile is not None and (len(tile) != 3 or min(tile) < 1):
            raise BadValue("tile", list(tile), "three sizes >= 1 (frames, rows, columns), or null for raster order")
        choice("backend", backend, (AUTO, *KERNELS))
        if backend == "flash4":
            check_backend("backend", backend)
        self.ratio, self.block_q, self.block_k, self.backend = ratio, block_q, block_k, backend
        self.tile = None if tile is None else tuple(tile)
        self.cross_backend = check_backend("cross_backend", cross_backend)

    @property
    def compiler_options(self) -> dict[str, Any]:
        return compiler_options(self.block_q, self.block_k) if self.backend in (AUTO, "flex") else {}

    def self_attention(self, head_dim: int) -> SparseLinearLayer:
        return SparseLinearLayer(self.ratio, self.block_q, self.block_k, self.backend, head_dim)

    def cross_attention(self, head_dim: int) -> DenseLayer:
        return DenseLayer(self.cross_backend, "cross_backend")

    def order(self, grid: Sequence[int], device: torch.device) -> TokenOrder | None:
        return None if self.tile is None else tiled(tuple(grid), self.tile, device)

    def flops(self, batch: int, heads: int, tokens: int, head_dim: int) -> Flops:
        blocks = num_blocks(tokens, self.block_k)
        keys = tokens * num_kept(self.ratio, blocks) / blocks
        products = 3 * linear_flops(batch * heads * tokens, head_dim, head_dim)  # phi(k)^T v, phi(q) times it, proj
        return Flops(linear=products, self_attention=attention_flops(batch, heads, tokens, keys, head_dim))

    def kept_bytes(self, batch: int, heads: int, tokens: int, head_dim: int, itemsize: int) -> int:
        """Bytes kept by the softmax branch, the projected linear branch, and the choice of blocks.

        The choice keeps the score (4 bytes) and the index (8 bytes) of every kept block.
        """
        queries, kept = num_blocks(tokens, self.block_q), num_kept(self.ratio, num_blocks(tokens, self.block_k))
        choice_of_blocks = batch * heads * queries * kept * (4 + 8)
        projected = batch * heads * tokens * head_dim * itemsize
        return softmax_bytes(batch, heads, tokens, head_dim, itemsize) + projected + choice_of_blocks
