"""Absolute positions of tokens, for networks whose captions name places and directions."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp_refiner.model.attention import Flops, linear_flops


class AbsolutePositions(nn.Module):
    """Adds to every token an embedding of its frame, row and column (Vaswani et al. 2017); starts at zero:

        sum over axes of  W_axis [sin p, cos p, sin p/2, cos p/2, ..., sin p/2^(F-1), cos p/2^(F-1)]

    Rotary embeddings give attention the *differences* of positions only. A network with nothing else finds out where a
    token stands only indirectly, from the borders of the grid.

    Args:
        dim: channels of a token.
        frequencies: F, of every axis.
    """

    def __init__(self, dim: int, frequencies: int):
        super().__init__()
        self.rates = 0.5 ** torch.arange(frequencies)
        self.frames, self.rows, self.columns = (nn.Linear(2 * frequencies, dim, bias=False) for _ in range(3))
        for axis in (self.frames, self.rows, self.columns):
            nn.init.zeros_(axis.weight)

    def forward(self, positions: Int[Tensor, "b t"] | None, grid: tuple[int, int, int]) -> Float[Tensor, "b n d"]:
        """The embedding of every token; ``b = 1`` without positions.

        Args:
            positions: of every frame in its clip; None for 0, 1, 2, ...
            grid: frames, rows and columns of tokens.
        """
        t, h, w = (torch.arange(size) for size in grid)
        of_frames = self.frames(self._waves(t.unsqueeze(0) if positions is None else positions))  # [b, t, d]
        of_rows, of_columns = self.rows(self._waves(h)), self.columns(self._waves(w))
        return (of_frames[:, :, None, None] + of_rows[:, None] + of_columns).flatten(1, 3)

    def _waves(self, position: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape f"]:
        weight = self.rows.weight
        angles = position.to(weight.device).unsqueeze(-1) * self.rates.to(weight.device)
        return torch.cat([angles.sin(), angles.cos()], -1).to(weight.dtype)

    def flops(self, grid: tuple[int, int, int]) -> Flops:
        """Operations of a forward pass over clips with frames 0, 1, 2, ..."""
        return Flops(linear=linear_flops(sum(grid), *self.rows.weight.shape))
