"""Operations of one forward pass of the Wan refiner, counted analytically (DESIGN section 8)."""

from collections.abc import Sequence
from math import prod

from diffusers import WanTransformer3DModel

from interp_refiner.attention import Attention, Flops, attention_flops, linear_flops


def wan_flops(
    wan: WanTransformer3DModel,
    attention: Attention,
    batch: int,
    grid: Sequence[int],
    text_tokens: int,
    keyframe_channels: int,
    times: int,
) -> Flops:
    """Operations of a forward pass.

    Args:
        wan: whose config says the sizes.
        attention: the kind of self-attention.
        batch: clips.
        grid: frames, rows and columns of tokens.
        text_tokens: of a prompt, padding included.
        keyframe_channels: extra input channels.
        times: timesteps of a clip: its frames, or 1.
    """
    size, tokens, frames = wan.config, prod(grid), grid[0]
    heads, head_dim = size.num_attention_heads, size.attention_head_dim
    dim, patch, rows = heads * head_dim, prod(size.patch_size), batch * tokens
    block = Flops(
        linear=linear_flops(rows, dim, 6 * dim)  # q, k, v and output of self-attention; q and output of cross-attention
        + linear_flops(batch * text_tokens, dim, 2 * dim)
        + 2 * linear_flops(rows, dim, size.ffn_dim),
        cross_attention=attention_flops(batch, heads, tokens, text_tokens, head_dim),
    )
    embeddings = (
        linear_flops(rows, patch * (size.in_channels + keyframe_channels), dim)
        + linear_flops(rows, dim, patch * size.out_channels)
        + linear_flops(batch * times, size.freq_dim + dim + 6 * dim, dim)
        + linear_flops(batch * text_tokens, size.text_dim + dim, dim)
        + linear_flops(batch * frames, 8 + 7 * dim, dim)
    )
    return (block + attention.flops(batch, heads, tokens, head_dim)) * size.num_layers + Flops(linear=embeddings)
