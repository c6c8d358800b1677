"""Replaces the kernel of Wan's attention modules; projections, norms and rotary embeddings stay."""

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.model.attention import Attention, AttentionLayer
from interp_refiner.model.backbone.spread import Spread, Together

Rotary = tuple[Tensor, Tensor]


class Attend(nn.Module):
    """The processor of a Wan attention module.

    It is a module itself, so that the layer's parameters belong to the block and are trained, sharded and saved with
    it.

    Args:
        layer: attention of queries, keys and values.

    Attributes:
        spread: the distribution of tokens over processes.
    """

    def __init__(self, layer: AttentionLayer):
        super().__init__()
        self.layer = layer
        self.spread: Spread = Together()

    def forward(
        self,
        attention: WanAttention,
        tokens: Float[Tensor, "b n d"],
        context: Float[Tensor, "b l d"] | None = None,
        attention_mask: None = None,
        rotary: Rotary | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Attention from ``tokens`` to ``context``; self-attention if it is None. Called by ``attention``."""
        source = tokens if context is None else context
        heads = (attention.heads, -1)
        q = attention.norm_q(attention.to_q(tokens)).unflatten(2, heads)
        k = attention.norm_k(attention.to_k(source)).unflatten(2, heads)
        v = attention.to_v(source).unflatten(2, heads)
        if rotary is not None:
            q, k = rotated(q, rotary), rotated(k, rotary)
        # Under autocast, norms and rotary embeddings return float32, but kernels need one precision.
        q, k = q.to(v.dtype), k.to(v.dtype)
        out = self.spread.attend(self.layer, q, k, v) if context is None else self.layer(q, k, v)
        projection, dropout = attention.to_out
        return dropout(projection(out.flatten(2)))


def rotated(x: Float[Tensor, "b n h d"], rotary: Rotary) -> Float[Tensor, "b n h d"]:
    """Rotary embedding (Su et al. 2021): rotates every pair of channels by its angle at the token's position.

    ``rotary`` holds cosines and sines ``[1, n, 1, d]``, each angle twice.
    """
    cos, sin = (table[..., ::2] for table in rotary)
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(3)


def use_attention(
    wan: WanTransformer3DModel, attention: Attention
) -> tuple[tuple[AttentionLayer, ...], tuple[AttentionLayer, ...]]:
    """Gives every block its own attention layers; returns the self-attention and the cross-attention layers.

    Weights of ``wan`` keep their names and values.
    """
    head_dim = wan.config.attention_head_dim
    own = tuple(attention.self_attention(head_dim) for _ in wan.blocks)
    cross = tuple(attention.cross_attention(head_dim) for _ in wan.blocks)
    for block, own_layer, cross_layer in zip(wan.blocks, own, cross, strict=True):
        block.attn1.set_processor(Attend(own_layer))
        block.attn2.set_processor(Attend(cross_layer))
    return own, cross


def product_dtype(x: Tensor) -> torch.dtype:
    """The precision of matrix products with ``x``: autocast's if it is on, else that of ``x``."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
