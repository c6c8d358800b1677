"""Dense softmax attention."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.model.attention.attention import Attention, AttentionLayer, Workload
from interp_refiner.model.attention.backends import AUTO, BACKENDS, check_backend, resolve
from interp_refiner.model.attention.flops import Flops, attention_flops
from interp_refiner.model.attention.tiles import TokenOrder


class DenseLayer(AttentionLayer):
    """``softmax(q k^T / sqrt(d)) v``.

    Args:
        backend: ``auto`` or the name of a kernel.
        argument: name of the backend's setting, for errors.
    """

    def __init__(self, backend: str, argument: str = "backend"):
        super().__init__()
        self.backend, self.argument = backend, argument
        self.chosen = "sdpa"

    def prepare(self, work: Workload) -> None:
        self.chosen = resolve(self.argument, self.backend, work)

    def forward(
        self, q: Float[Tensor, "b n h d"], k: Float[Tensor, "b l h d"], v: Float[Tensor, "b l h d"]
    ) -> Float[Tensor, "b n h d"]:
        return BACKENDS[self.chosen].attend(q, k, v)


class Dense(Attention):
    """Softmax attention of every token to every other.

    Args:
        backend: ``auto`` (the fastest that works here), ``sdpa``, ``cudnn``, ``flash``, ``flash3``, ``flash4``.
        cross_backend: backend of attention from tokens to text; None for the same.

    Raises:
        BadValue: no such backend.
        MissingExtra: its package is not installed.
    """

    def __init__(self, backend: str = AUTO, cross_backend: str | None = None):
        self.backend = check_backend("backend", backend)
        self.cross_backend = check_backend("cross_backend", cross_backend or backend)

    def self_attention(self, head_dim: int) -> DenseLayer:
        return DenseLayer(self.backend)

    def cross_attention(self, head_dim: int) -> DenseLayer:
        return DenseLayer(self.cross_backend, "cross_backend")

    def order(self, grid: Sequence[int], device: torch.device) -> TokenOrder | None:
        return None

    def flops(self, batch: int, heads: int, tokens: int, head_dim: int) -> Flops:
        return Flops(self_attention=attention_flops(batch, heads, tokens, tokens, head_dim))

    def kept_bytes(self, batch: int, heads: int, tokens: int, head_dim: int, itemsize: int) -> int:
        return softmax_bytes(batch, heads, tokens, head_dim, itemsize)


def softmax_bytes(batch: int, heads: int, queries: int, head_dim: int, itemsize: int) -> int:
    """Bytes that a fused softmax kernel keeps besides its inputs: the output, and one float32 normaliser per query."""
    return batch * heads * queries * (itemsize * head_dim + 4)
