"""Convolutions that small networks need: over the latents of every frame, and over the words of a caption."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue
from interp_refiner.model.attention import Flops, linear_flops


class Kernel(nn.Module):
    """A convolution over space whose kernel is kept as the matrix ``[out, in * size * size]``, as Muon takes it."""

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
    """A 3 x 3 and a 1 x 1 convolution of every frame, shifted and scaled by its noise level and place: adaLN-single of
    Chen et al., PixArt-alpha, ICLR 2024, one projection for all blocks and a table for each."""

    def __init__(self, dim: int):
        super().__init__()
        self.around, self.out = Kernel(dim, dim), nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.table = nn.Parameter(torch.tensor([0.0, 1.0]).unsqueeze(1).repeat(1, dim))  # shift, scale

    def forward(self, x: Float[Tensor, "n h w d"], modulation: Float[Tensor, "n 2 d"]) -> Float[Tensor, "n h w d"]:
        shift, scale = (modulation + self.table)[:, :, None, None].unbind(1)
        y = F.rms_norm(x, x.shape[-1:]) * scale + shift
        return x + self.out(F.silu(self.around(y.permute(0, 3, 1, 2))).permute(0, 2, 3, 1))


@dataclass(frozen=True)
class Convolutions:
    """Blocks of convolutions behind a transformer of patches, at every position of the latents.

    A token predicts the values of its patch by itself, so neighbouring patches agree only as far as attention made them
    agree. Convolutions cross their borders. They see the network's input, too (a skip connection around the patches, as
    in Ronneberger et al., U-Net, 2015), and add to the transformer's own output. What they add starts at zero.

    Attributes:
        dim: channels of every block.
        num_blocks: blocks of a 3 x 3 and a 1 x 1 convolution.

    Raises:
        BadValue: no channel, or no block.
    """

    dim: int = 64
    num_blocks: int = 2

    def __post_init__(self) -> None:
        for name in ("dim", "num_blocks"):
            if getattr(self, name) < 1:
                raise BadValue(name, getattr(self, name), "a number >= 1")


class ConvolutionalHead(nn.Module):
    """What :class:`Convolutions` describes: ``own + out(blocks(features + stem(state)))``.

    Args:
        size: of the blocks.
        channels: of the network's input.
        out_channels: of the network's output.
        time_dim: channels of the embedding of a frame's noise level.
    """

    def __init__(self, size: Convolutions, channels: int, out_channels: int, time_dim: int):
        super().__init__()
        self.dim = size.dim
        self.stem = Kernel(channels, size.dim)
        self.modulation = nn.Linear(time_dim, 2 * size.dim)
        self.blocks = nn.ModuleList(SpaceBlock(size.dim) for _ in range(size.num_blocks))
        self.norm, self.out = nn.RMSNorm(size.dim), nn.Linear(size.dim, out_channels)
        for layer in (self.modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        own: Float[Tensor, "b o t h w"],
        features: Float[Tensor, "b d t h w"],
        state: Float[Tensor, "b c t h w"],
        time: Float[Tensor, "b n e"],
    ) -> Float[Tensor, "b o t h w"]:
        """The transformer's output and features, the network's input, and every frame's embedded noise level."""
        b, _, t = own.shape[:3]
        modulation = self.modulation(F.silu(time)).expand(b, t, -1).reshape(b * t, 2, -1)
        x = _frames(features).permute(0, 2, 3, 1) + self.stem(_frames(state)).permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x, modulation)
        return own + self.out(F.silu(self.norm(x))).unflatten(0, (b, t)).permute(0, 4, 1, 2, 3).float()

    def flops(self, positions: int, times: int) -> Flops:
        """Operations of a forward pass over so many latent positions and noise levels, all clips together."""
        products = [layer.weight for layer in self.modules() if isinstance(layer, Kernel | nn.Linear)]
        rows = [times if weight is self.modulation.weight else positions for weight in products]
        return Flops(linear=sum(linear_flops(n, *weight.shape) for n, weight in zip(rows, products, strict=True)))


class WordConvolution(nn.Module):
    """Tells every word of a caption its neighbours; starts as the identity:

        e_i + W_2 silu(W_1 [e_{i-r}, ..., e_{i+r}] + b_1) + b_2,    W_2 = b_2 = 0 at first

    A language model's embedding of a word depends on the words around it; those of :class:`CaptionEncoder` do not. A
    patch that attends to "bright" then knows whose brightness it is: that of the ring that moves down.

    Args:
        dim: channels of a word.
        reach: r, the words on either side.
    """

    def __init__(self, dim: int, reach: int):
        super().__init__()
        self.reach = reach
        self.around, self.out = nn.Linear((2 * reach + 1) * dim, dim), nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, words: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        windows = F.pad(words, (0, 0, self.reach, self.reach)).unfold(1, 2 * self.reach + 1, 1).flatten(2)
        return words + self.out(F.silu(self.around(windows)))

    def flops(self, words: int) -> Flops:
        """Operations of a forward pass over so many words, all captions together."""
        return Flops(linear=sum(linear_flops(words, *layer.weight.shape) for layer in (self.around, self.out)))


def _frames(clip: Float[Tensor, "b c t h w"]) -> Float[Tensor, "n c h w"]:
    """Every frame as a picture, n = b t."""
    return clip.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
