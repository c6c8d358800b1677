"""A small network at full latent resolution, with alternating convolutions over space and attention over time."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, Corrupted, check_least
from interp_refiner.model.attention import Attention, Dense
from interp_refiner.model.backbone.backbone import Backbone, Interface
from interp_refiner.model.backbone.conditioning import Conditioning, FrameNumbers
from interp_refiner.model.backbone.convolutions import Kernel, SpaceBlock
from interp_refiner.model.backbone.shown import Shown


class TimeBlock(nn.Module):
    """Self-attention along time, separately for every spatial position."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.RMSNorm(dim)
        self.place = nn.Linear(dim, dim, bias=False)
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Float[Tensor, "b t h w d"], places: Float[Tensor, "#b t d"]) -> Float[Tensor, "b t h w d"]:
        b, t, h, w, d = x.shape
        y = self.norm(x) + self.place(places)[:, :, None, None]
        q, k, v = self.qkv(y).view(b, t, h * w, 3, self.num_heads, -1).permute(3, 0, 2, 4, 1, 5).flatten(1, 2)
        seen = F.scaled_dot_product_attention(q, k, v).unflatten(0, (b, h * w))  # [b, positions, heads, t, d / heads]
        return x + self.out(seen.permute(0, 3, 1, 2, 4).reshape(b, t, h, w, d))


@dataclass(frozen=True)
class FactorisedSize:
    """The size of a :class:`Factorised`.

    Attributes:
        dim: channels of every block, an even number.
        num_layers: number of space blocks, each followed by a time block.
        num_heads: heads of attention over time; a divisor of ``dim``.

    Raises:
        BadValue: a ``dim`` that is odd or below 2, or ``num_heads`` does not divide it.
    """

    dim: int = 64
    num_layers: int = 3
    num_heads: int = 2

    def __post_init__(self) -> None:
        check_least(self, num_layers=0)
        if self.dim < 2 or self.dim % 2:
            raise BadValue("dim", self.dim, "an even number of channels, at least 2")
        if self.num_heads < 1 or self.dim % self.num_heads:
            raise BadValue("num_heads", self.num_heads, f"a divisor of dim={self.dim}")


@final
class Factorised(Backbone):
    """A residual network of convolution blocks over space, each followed by attention along time at every position.

    Space and time are factorised as in Ho et al., Video Diffusion Models, 2022, but the resolution never changes: a
    small neighbourhood shows which hypothesis is right, and the choice is usually valid for a whole gap. The mean of a
    prompt's word embeddings is added to every frame's embedding.

    Args:
        interface: channels in and out.
        size: size of the network.
        conditioning: how noise levels and keyframes become inputs; None for :class:`Conditioning`'s defaults.
        attention: dense attention or None; sequences are too short for sparse attention.

    Raises:
        BadValue: sparse attention; on use, latents that are not those of a video.
    """

    def __init__(
        self,
        interface: Interface,
        size: FactorisedSize = FactorisedSize(),
        conditioning: Conditioning | None = None,
        attention: Attention | None = None,
    ):
        super().__init__()
        if attention is not None and not isinstance(attention, Dense):
            allowed = "dense, because attention runs over few frames only"
            raise BadValue("attention", type(attention).__name__, allowed)
        self.conditioning, spec, dim = conditioning or Conditioning(), interface.spec, size.dim
        self.embed = Kernel(spec.channels + self.conditioning.count(interface), dim)
        self.sinusoids, self.time = Timesteps(dim, True, 0.0), TimestepEmbedding(dim, dim)
        self.frame_numbers = FrameNumbers(dim, dim) if interface.num_hypotheses else None
        self.text = nn.Linear(spec.text_dim, dim, bias=False)
        self.modulation = nn.Linear(dim, 2 * dim)
        nn.init.zeros_(self.text.weight)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.places = Timesteps(dim, True, 0.0)
        blocks = ((SpaceBlock(dim), TimeBlock(dim, size.num_heads)) for _ in range(size.num_layers))
        self.blocks = nn.ModuleList(block for pair in blocks for block in pair)
        self.norm, self.head = nn.RMSNorm(dim), nn.Linear(dim, interface.out_channels)

    @property
    def units(self) -> Sequence[nn.Module]:
        return tuple(self.blocks)

    def identity_parts(self, stored: Collection[str]) -> set[str]:
        """New blocks of both kinds start as the identity, because their residual output starts at zero.

        See Chen et al., Net2Net, ICLR 2016.
        """
        of_blocks = {name: name.split(".")[1] for name in self.state_dict() if name.startswith("blocks.")}
        have = {of_blocks[name] for name in stored if name in of_blocks}
        return {name for name, block in of_blocks.items() if block not in have}

    def zero_output(self) -> None:
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def check(self, latent_shape: Sequence[int]) -> None:
        """Refuses clips that are not videos ``[c, t, h, w]``."""
        if len(latent_shape) != 4:
            allowed = "[c, t, h, w], videos (paths through mazes have backbone=trajectory, as in +experiment=maze)"
            raise BadValue("latent_shape", list(latent_shape), allowed)

    def forward(self, seen: Corrupted | Shown) -> Float[Tensor, "b o t h w"]:
        seen = self.conditioning(seen)
        self.check(seen.state.shape[1:])
        b, _, t = seen.state.shape[:3]
        inputs = seen.state if seen.channels is None else torch.cat([seen.state, seen.channels], 1)
        frames = inputs.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = self.embed(frames).permute(0, 2, 3, 1)  # [(b t), h, w, d]
        modulation = self.modulation(F.silu(self._embed_time(seen, x.dtype))).view(b * t, 2, -1)
        at = torch.arange(t, device=x.device).unsqueeze(0) if seen.positions is None else seen.positions
        places = self.places(at.flatten()).unflatten(0, at.shape).to(x.dtype)
        for block in self.blocks:
            if isinstance(block, SpaceBlock):
                x = block(x, modulation)
            else:
                x = block(x.unflatten(0, (b, t)), places).flatten(0, 1)
        return self.head(F.silu(self.norm(x))).unflatten(0, (b, t)).permute(0, 4, 1, 2, 3).float()

    @property
    def ignores_text(self) -> bool:
        return not self.text.weight.any()

    def _embed_time(self, seen: Shown, dtype: torch.dtype) -> Float[Tensor, "b t d"]:
        """The embedding of every frame's timestep and numbers, and of the prompt's mean over its words."""
        times = seen.times
        if times.shape[1] == 1:
            times = times.expand(-1, seen.state.shape[2])
        embedded = self.time(self.sinusoids(times.flatten()).to(dtype)).unflatten(0, times.shape)
        if self.frame_numbers is not None and seen.numbers is not None:
            embedded = embedded + self.frame_numbers(seen.numbers)
        if seen.text is None:
            return embedded + 0 * self.text.weight.sum()  # a gradient of 0, which DDP waits for
        words = (seen.text != 0).any(2, keepdim=True).sum(1).clamp(min=1)
        return embedded + self.text((seen.text.float().sum(1) / words).to(dtype)).unsqueeze(1)
