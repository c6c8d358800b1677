"""The interface of attention: layers for a block, an order of tokens, a count of operations."""

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
    """The sizes, device and dtype of an attention call, which determine the choice of its kernel.

    Attributes:
        batch, heads, head_dim: b, h, d.
        queries, keys: numbers of query tokens, n, and of key tokens, l.
        device, dtype: of queries, keys and values.
        training: whether a backward pass follows.
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
        chosen: name of the kernel that it runs, set by :meth:`prepare`.
    """

    chosen: str

    @abstractmethod
    def prepare(self, work: Workload) -> None:
        """Chooses the kernel. Called before every forward pass, outside compiled code.

        Raises:
            BadValue: the chosen backend cannot run there.
        """

    @abstractmethod
    def forward(
        self, q: Float[Tensor, "b n h d"], k: Float[Tensor, "b l h d"], v: Float[Tensor, "b l h d"]
    ) -> Float[Tensor, "b n h d"]:
        """One output per query."""


class Attention(ABC):
    """A kind of attention; a backbone gets the attention layers of its blocks from it."""

    @property
    def compiler_options(self) -> dict[str, Any]:
        """Options that ``torch.compile`` needs to compile these layers."""
        return {}

    @abstractmethod
    def self_attention(self, head_dim: int) -> AttentionLayer:
        """The self-attention layer of one block."""

    @abstractmethod
    def cross_attention(self, head_dim: int) -> AttentionLayer:
        """The cross-attention layer of one block, from tokens to text."""

    @abstractmethod
    def order(self, grid: Sequence[int], device: torch.device) -> TokenOrder | None:
        """The token order that the layers need, on a grid of frames, rows and columns; None for raster order."""

    @abstractmethod
    def flops(self, batch: int, heads: int, tokens: int, head_dim: int) -> Flops:
        """Operations of one self-attention layer, forward."""

    @abstractmethod
    def kept_bytes(self, batch: int, heads: int, tokens: int, head_dim: int, itemsize: int) -> int:
        """Bytes that one self-attention layer keeps for its backward pass under selective recomputation."""
