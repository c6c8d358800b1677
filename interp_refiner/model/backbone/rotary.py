"""Wan's rotary embedding for frames that are not consecutive."""

import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from jaxtyping import Float, Int
from torch import Tensor

from interp_refiner.core import BadValue


def rotary_at(
    rope: WanRotaryPosEmbed, positions: Int[Tensor, "b t"] | None, grid: tuple[int, int, int]
) -> tuple[Float[Tensor, "b n 1 d"], Float[Tensor, "b n 1 d"]]:
    """Cosines and sines of tokens whose frames are at ``positions`` in their clips; ``b = 1`` without positions.

    With positions 0, 1, 2, ... they equal ``rope``'s own, bit for bit.

    Args:
        rope: the transformer's tables ``[most, d]`` for positions below ``most``. Their first columns belong to frames,
            the next to rows, the last to columns.
        positions: of every frame of every clip; None for 0, 1, 2, ...
        grid: frames, rows and columns of tokens.

    Raises:
        BadValue: a token spans several frames, so it has no single position.
    """
    if rope.patch_size[0] != 1 and positions is not None:
        raise BadValue("patch_size", list(rope.patch_size), "1 frame per token, for keyframes at arbitrary positions")
    t, h, w = grid
    sizes = [rope.t_dim, rope.h_dim, rope.w_dim]

    def table(angles: Float[Tensor, "most d"]) -> Float[Tensor, "b n 1 d"]:
        of_frames, of_rows, of_columns = angles.split(sizes, 1)
        of_frames = of_frames[:t].unsqueeze(0) if positions is None else of_frames[positions]
        shape = (len(of_frames), t, h, w, -1)
        parts = (of_frames[:, :, None, None], of_rows[:h, None], of_columns[:w])
        return torch.cat([part.expand(shape) for part in parts], -1).flatten(1, 3).unsqueeze(2)

    return table(rope.freqs_cos), table(rope.freqs_sin)
