"""Convolutions for small transformers: at full latent resolution, and over the words of a caption."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue
from interp_refiner.model.attention import Flops, linear_flops
from interp_refiner.model.backbone.zeroed import zeroed


class Kernel(nn.Module):
    """A convolution over space. Its kernel is stored as a matrix ``[out, in * size * size]``, as Muon needs it."""

    def __init__(self, channels: int, out: int, size: int = 3):
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.randn(out, channels * size**2) * (channels * size**2) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o h w"]:
        kernel = self.weight.unflatten(1, (-1, self.size, self.size))
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, kernel, self.bias, padding=self.size // 2)


class SpaceBlock(nn.Module):
    """A 3 x 3 and a 1 x 1 convolution of every frame, shifted and scaled by the embedding of its noise level.

    The modulation is adaLN-single (Chen et al., PixArt-alpha, ICLR 2024): one projection for all blocks and a table per
    block.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.around, self.out = Kernel(dim, dim), zeroed(nn.Linear(dim, dim))
        self.table = nn.Parameter(torch.tensor([0.0, 1.0]).unsqueeze(1).repeat(1, dim))  # shift, scale

    def forward(self, x: Float[Tensor, "n h w d"], modulation: Float[Tensor, "n 2 d"]) -> Float[Tensor, "n h w d"]:
        shift, scale = (modulation + self.table)[:, :, None, None].unbind(1)
        y = F.rms_norm(x, x.shape[-1:]) * scale + shift
        return x + self.out(F.silu(self.around(y.permute(0, 3, 1, 2))).permute(0, 2, 3, 1))


@dataclass(frozen=True)
class Convolutions:
    """Convolution blocks after a patch transformer, at full latent resolution.

    The transformer's head predicts every patch from its own token, so only attention makes neighbouring patches
    consistent. Convolutions cross the patch borders. Their input includes the network's input (a skip connection around
    the patches, as in Ronneberger et al., U-Net, 2015). Their output, zero at the start, is added to the transformer's
    output.

    Attributes:
        dim: channels of every block.
        num_blocks: number of blocks, each with a 3 x 3 and a 1 x 1 convolution.

    Raises:
        BadValue: ``dim`` or ``num_blocks`` below 1.
    """

    dim: int = 64
    num_blocks: int = 2

    def __post_init__(self) -> None:
        for name in ("dim", "num_blocks"):
            if getattr(self, name) < 1:
                raise BadValue(name, getattr(self, name), "a number >= 1")


class ConvolutionalHead(nn.Module):
    """The module of :class:`Convolutions`: ``own + out(blocks(features + stem(state)))``, with ``out`` zero at first.

    Args:
        size: sizes of the blocks.
        channels: of the network's input.
        out_channels: of the network's output.
        time_dim: channels of the embedding of a frame's noise level.
    """

    def __init__(self, size: Convolutions, channels: int, out_channels: int, time_dim: int):
        super().__init__()
        self.dim = size.dim
        self.stem = Kernel(channels, size.dim)
        self.modulation = zeroed(nn.Linear(time_dim, 2 * size.dim))
        self.blocks = nn.ModuleList(SpaceBlock(size.dim) for _ in range(size.num_blocks))
        self.norm, self.out = nn.RMSNorm(size.dim), zeroed(nn.Linear(size.dim, out_channels))

    def forward(
        self,
        own: Float[Tensor, "b o t h w"],
        features: Float[Tensor, "b d t h w"],
        state: Float[Tensor, "b c t h w"],
        time: Float[Tensor, "b n e"],
    ) -> Float[Tensor, "b o t h w"]:
        """The output plus its convolutional correction.

        Args:
            own: the transformer's output.
            features: the transformer's features.
            state: the network's input.
            time: every frame's embedded noise level.
        """
        b, _, t = own.shape[:3]
        modulation = self.modulation(F.silu(time)).expand(b, t, -1).reshape(b * t, 2, -1)
        x = _frames(features).permute(0, 2, 3, 1) + self.stem(_frames(state)).permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x, modulation)
        return own + self.out(F.silu(self.norm(x))).unflatten(0, (b, t)).permute(0, 4, 1, 2, 3).float()

    def flops(self, positions: int, times: int) -> Flops:
        """Operations of a forward pass, from the numbers of latent positions and noise levels of all clips together."""
        products = [layer.weight for layer in self.modules() if isinstance(layer, Kernel | nn.Linear)]
        rows = [times if weight is self.modulation.weight else positions for weight in products]
        return Flops(linear=sum(linear_flops(n, *weight.shape) for n, weight in zip(rows, products, strict=True)))


class WordConvolution(nn.Module):
    """Adds the words around every word ``e_i`` of a caption to its embedding; starts as the identity:

        e_i + W_2 silu(W_1 [e_{i-r}, ..., e_{i+r}] + b_1) + b_2,    W_2 = b_2 = 0 at first

    A language model's embedding of a word depends on the words around it; an embedding of :class:`CaptionEncoder` does
    not. With the words around it, a patch that attends to "bright" in "bright ring moving down" also gets the shape and
    the direction of that object.

    Args:
        dim: channels of a word.
        reach: r, the number of words on either side.
    """

    def __init__(self, dim: int, reach: int):
        super().__init__()
        self.reach = reach
        self.around, self.out = nn.Linear((2 * reach + 1) * dim, dim), zeroed(nn.Linear(dim, dim))

    def forward(self, words: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        windows = F.pad(words, (0, 0, self.reach, self.reach)).unfold(1, 2 * self.reach + 1, 1).flatten(2)
        return words + self.out(F.silu(self.around(windows)))

    def flops(self, words: int) -> Flops:
        """Operations of a forward pass over ``words`` words, of all captions together."""
        return Flops(linear=sum(linear_flops(words, *layer.weight.shape) for layer in (self.around, self.out)))


def _frames(clip: Float[Tensor, "b c t h w"]) -> Float[Tensor, "n c h w"]:
    """All frames as a batch of pictures, n = b t."""
    return clip.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
