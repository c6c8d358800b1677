"""What the kinds of attention have in common: layers for a block, an order of tokens, a count of operations."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.attention.flops import Flops
from interp_refiner.attention.tiles import TokenOrder


class AttentionLayer(nn.Module, ABC):
    """Attention of one block, after projections, norms and rotary embeddings and before the output projection."""

    @abstractmethod
    def prepare(self, device: torch.device, dtype: torch.dtype) -> None:
        """Settles what depends on where and in which precision it runs, before the first compiled call.

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
