"""The base class of attention: layers for a block, an order of tokens, a count of operations."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.model.attention.flops import Flops
from interp_refiner.model.attention.tiles import TokenOrder


@dataclass(frozen=True)
class Workload:
    """What a layer is about to compute: all that the choice of its kernel depends on.

    Attributes:
        batch, heads, head_dim: b, h, d.
        queries, keys: tokens that attend, n, and that are attended to, l.
        device, dtype: of queries, keys and values.
        training: a backward pass follows.
    """

    batch: int
    queries: int
    keys: int
    heads: int
    head_dim: int
    device: torch.device
    dtype: torch.dtype
    training: bool = True

    def __str__(self) -> str:
        passes = "forward and backward" if self.training else "forward"
        sizes = f"{self.queries} x {self.keys} tokens, {self.heads} heads x {self.head_dim}, batch {self.batch}"
        return f"{passes} of {sizes}, {str(self.dtype).removeprefix('torch.')}"


class AttentionLayer(nn.Module, ABC):
    """Attention of one block, after projections, norms and rotary embeddings and before the output projection.

    Attributes:
        chosen: the kernel that it runs, by name; settled by :meth:`prepare`.
    """

    chosen: str

    @abstractmethod
    def prepare(self, work: Workload) -> None:
        """Settles the kernel, outside compiled code and before every forward pass.

        Raises:
            BadValue: the chosen backend cannot run there.
        """

    @abstractmethod
    def forward(
        self, q: Float[Tensor, "b n h d"], k: Float[Tensor, "b l h d"], v: Float[Tensor, "b l h d"]
    ) -> Float[Tensor, "b n h d"]:
        """One output per query."""


class Attention(ABC):
    """A kind of attention, from which a backbone takes the layers of its blocks."""

    @property
    def compiler_options(self) -> dict[str, Any]:
        """What ``torch.compile`` has to be told where it compiles one of these layers."""
        return {}

    @abstractmethod
    def self_attention(self, head_dim: int) -> AttentionLayer:
        """The layer of tokens among themselves, for one block."""

    @abstractmethod
    def cross_attention(self, head_dim: int) -> AttentionLayer:
        """The layer of tokens against text, for one block."""

    @abstractmethod
    def order(self, grid: Sequence[int], device: torch.device) -> TokenOrder | None:
        """The order of tokens on a grid of frames, rows and columns that it wants; None for raster order."""

    @abstractmethod
    def flops(self, batch: int, heads: int, tokens: int, head_dim: int) -> Flops:
        """Operations of one layer of self-attention, forward."""

    @abstractmethod
    def kept_bytes(self, batch: int, heads: int, tokens: int, head_dim: int, itemsize: int) -> int:
        """What one layer of self-attention keeps for its backward pass where only expensive results are kept."""
