"""Chooses the key blocks of every query block, and computes attention over them as a masked softmax."""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention


@dataclass(frozen=True)
class KeptBlocks:
    """The kept key blocks of every query block.

    Attributes:
        index: kept key blocks, ascending, int32.
        block_q, block_k: tokens per query block and per key block; the last block may hold fewer.
        num_keys: number of key tokens.
    """

    index: Int[Tensor, "b h m kept"]
    block_q: int
    block_k: int
    num_keys: int

    @property
    def num_key_blocks(self) -> int:
        return num_blocks(self.num_keys, self.block_k)

    @property
    def mask(self) -> Bool[Tensor, "b h m blocks"]:
        """True if a query block keeps a key block."""
        return marked(self.index, self.num_key_blocks)


def listed(
    mask: Bool[Tensor, "b h rows columns"],
) -> tuple[Int[Tensor, "b h rows"], Int[Tensor, "b h rows columns"]]:
    """For every row: the number of True columns, and all columns, first the True ones, then the others, both ascending.

    A stable partition by counting. A sort would give the same result, but torch's compiler unrolls a sort of so few
    columns into kernels that took six sevenths of a block's compile time (experiments/performance).
    """
    columns = torch.arange(mask.shape[3], device=mask.device)
    seen = mask.cumsum(3)
    count = seen[..., -1:]
    place = torch.where(mask, seen - 1, count + columns - seen)
    index = torch.zeros_like(place, dtype=torch.int32).scatter(3, place, columns.int().expand_as(place))
    return count.squeeze(3).int(), index


def marked(index: Int[Tensor, "b h rows listed"], columns: int) -> Bool[Tensor, "b h rows columns"]:
    """A mask that is True in the columns listed in a row of ``index``."""
    none = torch.zeros(*index.shape[:3], columns, dtype=torch.bool, device=index.device)
    return none.scatter(3, index.long(), True)


def num_blocks(tokens: int, block: int) -> int:
    """The number of blocks that hold ``tokens`` tokens."""
    return -(-tokens // block)


def num_kept(ratio: float, blocks: int) -> int:
    """``ratio`` of the key blocks, rounded, at least one."""
    return max(1, round(ratio * blocks))


def pooled(x: Float[Tensor, "b h n d"], block: int) -> Float[Tensor, "b h m d"]:
    """Means over blocks of tokens, in float32 or more precise; the last block may be shorter."""
    n = x.shape[2]
    blocks = num_blocks(n, block)
    sums = rearrange(pad(x, (0, 0, 0, blocks * block - n)), "b h (m t) d -> b h m t d", t=block)
    dtype = torch.promote_types(x.dtype, torch.float32)
    starts = torch.arange(blocks, device=x.device) * block
    sizes = (n - starts).clamp(max=block).to(dtype)
    return sums.sum(3, dtype=dtype) / sizes.unsqueeze(1)


@torch.no_grad()
def choose_blocks(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h l d"], ratio: float, block_q: int, block_k: int
) -> KeptBlocks:
    """The top ``ratio`` key blocks of every query block by the score ``q_bar k_bar^T``; the choice has no gradient.

    docs/method.md, Sparse-linear attention; Zhang et al. 2025, "SLA: Beyond Sparsity in Diffusion Transformers via
    Fine-Tunable Sparse-Linear Attention", section 4.
    """
    with torch.autocast(q.device.type, enabled=False):  # otherwise the product would be in half precision
        affinity = torch.einsum("bhmd,bhkd->bhmk", pooled(q, block_q), pooled(k, block_k))
    blocks = affinity.shape[3]
    kept = num_kept(ratio, blocks)
    _, ascending = listed(marked(affinity.topk(kept, dim=3).indices, blocks))
    return KeptBlocks(ascending[..., :kept], block_q, block_k, k.shape[2])


def block_attention(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h l d"], v: Float[Tensor, "b h l d"], kept: KeptBlocks
) -> Float[Tensor, "b h n d"]:
    """``O_s``: exact softmax attention over the kept blocks, with a full score matrix; for small sizes and CPUs."""
    rows = kept.mask.repeat_interleave(kept.block_q, 2)[:, :, : q.shape[2]]
    mask = rows.repeat_interleave(kept.block_k, 3)[..., : k.shape[2]]
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1 / math.sqrt(q.shape[3]))
