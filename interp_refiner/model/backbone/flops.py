"""Operations of one forward pass of the Wan refiner, counted analytically (docs/method.md, Sparse-linear attention)."""

from collections.abc import Sequence
from math import prod

from diffusers import WanTransformer3DModel

from interp_refiner.model.attention import Attention, Flops, attention_flops, linear_flops


def wan_flops(
    wan: WanTransformer3DModel,
    attention: Attention,
    batch: int,
    grid: Sequence[int],
    text_tokens: int,
    more_channels: int,
    times: int,
) -> Flops:
    """Operations of a forward pass.

    Args:
        wan: the transformer, for its sizes.
        attention: the kind of self-attention.
        batch: number of clips.
        grid: frames, rows and columns of tokens.
        text_tokens: tokens of a prompt, including padding.
        more_channels: further channels of input and output, in addition to those of ``wan``.
        times: timesteps per clip: its number of frames, or 1.
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
        linear_flops(rows, patch * (size.in_channels + more_channels), dim)
        + linear_flops(rows, dim, patch * size.out_channels)
        + linear_flops(batch * times, size.freq_dim + dim + 6 * dim, dim)
        + linear_flops(batch * text_tokens, size.text_dim + dim, dim)
        + linear_flops(batch * frames, 8 + 7 * dim, dim)
    )
    own = block * size.num_layers + Flops(linear=embeddings)
    adapters = adapter_flops(wan, rows, batch * text_tokens)
    beside = Flops(linear=adapters, frozen=own.linear if adapters else 0.0)
    return own + beside + attention.flops(batch, heads, tokens, head_dim) * size.num_layers


def adapter_flops(wan: WanTransformer3DModel, rows: int, text_rows: int) -> float:
    """Operations of low-rank adapters: cross-attention keys and values process the text, all others the tokens."""
    adapters = [(name, weight) for name, weight in wan.named_parameters() if ".lora_" in name]
    seen_by = [text_rows if "attn2.to_k" in name or "attn2.to_v" in name else rows for name, _ in adapters]
    return 2.0 * sum(count * weight.numel() for count, (_, weight) in zip(seen_by, adapters, strict=True))
