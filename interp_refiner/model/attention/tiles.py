"""The order of a clip's tokens: raster order, or one space-time tile after the other for compact key blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class TokenOrder:
    """A permutation of tokens and its inverse.

    Attributes:
        raster: ``raster[i]`` is the raster index of the token at position i.
        place: ``place[j]`` is the position of the token with raster index j.
    """

    raster: Int[Tensor, " n"]
    place: Int[Tensor, " n"]

    def apply(self, tokens: Shaped[Tensor, "b n *d"]) -> Shaped[Tensor, "b n *d"]:
        """From raster order to this one."""
        return permuted(tokens, self.raster, self.place)

    def undo(self, tokens: Shaped[Tensor, "b n *d"]) -> Shaped[Tensor, "b n *d"]:
        """From this order back to raster order."""
        return permuted(tokens, self.place, self.raster)


class Permutation(torch.autograd.Function):
    """``y[:, i] = x[:, index[i]]``; its gradient is the inverse permutation, ``dx[:, j] = dy[:, inverse[j]]``.

    torch's own gradient of indexing would use slow atomic additions, because the indices might not be distinct.
    """

    @staticmethod
    def forward(tokens: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        return tokens.index_select(1, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        index, inverse = ctx.saved_tensors
        return permuted(grad, inverse, index), None, None


def permuted(tokens: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """``tokens`` permuted along their second axis by ``index``; ``inverse`` is the inverse permutation."""
    return Permutation.apply(tokens, index, inverse)


def tile_order(grid: Sequence[int], tile: Sequence[int], device: torch.device | str = "cpu") -> Int[Tensor, " n"]:
    """Raster indices of the tokens of a grid ``(t, h, w)``, tile by tile; the last tiles of an axis may be smaller.

    The tiles are in raster order, and so are the tokens inside a tile.
    """
    axes = torch.meshgrid(*(torch.arange(size, device=device) for size in grid), indexing="ij")
    key = torch.zeros(tuple(grid), dtype=torch.long, device=device)
    for axis, size, edge in zip(axes, grid, tile, strict=True):
        key = key * -(-size // edge) + axis // edge
    for axis, edge in zip(axes, tile, strict=True):
        key = key * edge + axis % edge
    return key.flatten().argsort()


@lru_cache(maxsize=8)
def tiled(grid: tuple[int, ...], tile: tuple[int, ...], device: torch.device) -> TokenOrder:
    """The tile order with its inverse, cached for each grid and device."""
    with torch.inference_mode(False):  # a later backward pass may need it
        raster = tile_order(grid, tile, device)
        return TokenOrder(raster, raster.argsort())
