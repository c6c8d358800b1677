"""A small transformer that refines paths on a map."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import final

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from interp_refiner.core import BadValue, Corrupted, check_least
from interp_refiner.core.maps import COUNT, DISTANCE, GOAL, START
from interp_refiner.model.attention import Attention, Dense
from interp_refiner.model.backbone.backbone import Backbone, Interface
from interp_refiner.model.backbone.conditioning import Conditioning, FrameNumbers
from interp_refiner.model.backbone.shown import Shown
from interp_refiner.model.backbone.zeroed import zeroed


def look_up(maps: Float[Tensor, "b k g h"], points: Float[Tensor, "b 2 *n"]) -> Float[Tensor, "b k *n"]:
    """Samples maps at points, bilinearly between cell centres; outside the outermost centres, the value is constant.

    Args:
        maps: cell (i, j) covers ``[i/g, (i+1)/g] x [j/h, (j+1)/h]``.
        points: rows and columns in 0..1.
    """
    # grid_sample expects (column, row) in -1..1, from border to border
    grid = (2 * points.flatten(2).flip(1) - 1).transpose(1, 2).unsqueeze(2)
    found = F.grid_sample(maps, grid.to(maps.dtype), padding_mode="border", align_corners=False)
    return found.squeeze(3).unflatten(2, points.shape[2:])


def slope(field: Float[Tensor, "b 1 g h"]) -> Float[Tensor, "b 2 g h"]:
    """Gradient along rows and along columns per cell, by central differences."""
    return torch.cat(torch.gradient(field, dim=(2, 3)), 1)


class MapEncoder(nn.Module):
    """Encodes maps and cell coordinates with residual convolutions; gives features for every cell.

    Args:
        channels: number of input maps.
        dim: number of features.
        num_layers: number of residual blocks; every other one has dilation 2.
    """

    def __init__(self, channels: int, dim: int, num_layers: int):
        super().__init__()
        self.embed = nn.Conv2d(channels + 2, dim, 1)
        self.blocks = nn.ModuleList(
            nn.Conv2d(dim, dim, 3, padding=1 + i % 2, dilation=1 + i % 2) for i in range(num_layers)
        )

    def forward(self, maps: Float[Tensor, "b k g h"]) -> Float[Tensor, "b d g h"]:
        rows, columns = (torch.linspace(-1, 1, size, device=maps.device, dtype=maps.dtype) for size in maps.shape[2:])
        place = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(len(maps), -1, -1, -1)
        x = self.embed(torch.cat([maps, place], 1))
        for block in self.blocks:
            x = x + F.silu(block(x))
        return x


class Glance(nn.Module):
    """Samples the encoded map at learned offsets around every point, as deformable attention does.

    The offsets get gradients through the bilinear sampling (Zhu et al., Deformable DETR, ICLR 2021).

    Args:
        dim: width of a point's token.
        map_dim: number of features of every cell.
        places: number of sampled positions per point; initially on circles of one to four cells around it.
    """

    def __init__(self, dim: int, map_dim: int, places: int):
        super().__init__()
        self.offsets, self.out = nn.Linear(dim, 2 * places), nn.Linear(places * map_dim, dim)
        angle = torch.arange(places) * (2 * pi / places)
        radius = 1 + 3 * torch.arange(places).remainder(2)
        nn.init.zeros_(self.offsets.weight)
        with torch.no_grad():
            self.offsets.bias.copy_(torch.cat([radius * angle.sin(), radius * angle.cos()]))

    def forward(
        self, x: Float[Tensor, "b t d"], features: Float[Tensor, "b m g h"], points: Float[Tensor, "b 2 t"]
    ) -> Float[Tensor, "b t d"]:
        cells = self.offsets(x).unflatten(2, (2, -1)).transpose(1, 2)
        offsets = torch.stack([cells[:, axis] / size for axis, size in enumerate(features.shape[2:])], 1)
        seen = look_up(features, points.unsqueeze(3) + offsets)
        return self.out(seen.permute(0, 2, 3, 1).flatten(2))


class Block(nn.Module):
    """A glance at the map, self-attention and an MLP.

    The embedding of every point's noise level and numbers shifts, scales and gates self-attention and MLP. This is
    adaLN-single (Chen et al., PixArt-alpha, ICLR 2024): one projection for all blocks and a table per block.
    """

    def __init__(self, dim: int, num_heads: int, map_dim: int, places: int):
        super().__init__()
        self.num_heads = num_heads
        self.glance = Glance(dim, map_dim, places)
        self.before_glance = nn.LayerNorm(dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim, elementwise_affine=False) for _ in range(2))
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim))
        # shift 0, scale 1 + 0, gate 1
        self.table = nn.Parameter(torch.tensor([0.0, 0, 1, 0, 0, 1]).unsqueeze(1).repeat(1, dim))

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        modulation: Float[Tensor, "b t 6 d"],
        features: Float[Tensor, "b m g h"],
        points: Float[Tensor, "b 2 t"],
    ) -> Float[Tensor, "b t d"]:
        x = x + self.glance(self.before_glance(x), features, points)
        shift, scale, gate, shift_2, scale_2, gate_2 = (modulation + self.table).unbind(2)
        x = x + gate * self._attend(self.norms[0](x) * (1 + scale) + shift)
        return x + gate_2 * self.mlp(self.norms[1](x) * (1 + scale_2) + shift_2)

    def _attend(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


@dataclass(frozen=True)
class TrajectorySize:
    """The size of a :class:`Trajectory`.

    Attributes:
        dim: width of a point's token.
        num_layers: number of blocks.
        num_heads: heads of self-attention; a divisor of ``dim``.

    Raises:
        BadValue: ``num_heads`` does not divide ``dim``.
    """

    dim: int = 96
    num_layers: int = 4
    num_heads: int = 4

    def __post_init__(self) -> None:
        check_least(self, dim=1, num_layers=0)
        if self.num_heads < 1 or self.dim % self.num_heads:
            raise BadValue("num_heads", self.num_heads, f"a divisor of dim={self.dim}")


@dataclass(frozen=True)
class MapView:
    """How points read their map.

    Attributes:
        dim, num_layers: of the convolutions that encode the map.
        window: side of the window around every point in cells, odd.
        places: number of positions of the encoded map that every point samples in every block.

    Raises:
        BadValue: an even window.
    """

    dim: int = 32
    num_layers: int = 4
    window: int = 9
    places: int = 8

    def __post_init__(self) -> None:
        if self.window < 1 or self.window % 2 == 0:
            raise BadValue("window", self.window, "an odd number of cells")


@final
class Trajectory(Backbone):
    """A transformer over the points of a path, which also reads the map around each point of the interpolated path.

    A point's token is made from the state, the keyframe channels, start and goal, and values sampled along ``zbar``:
    the encoded map, the gradient of the signed distance, and all maps in a window around the point. Every block samples
    the encoded map again.

    Args:
        interface: of clips with 2 channels, rows and columns, and the 4 maps of a maze as context. Their statistics
            convert between coordinates in 0..1 and latents.
        size: of the transformer.
        map: how every point reads the map.
        conditioning: how noise levels and keyframes become inputs; None for :class:`Conditioning`'s defaults.
        attention: dense attention or None; a path has too few points for sparse attention.

    Raises:
        BadValue: data other than paths of two coordinates on maps, or sparse attention.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        interface: Interface,
        size: TrajectorySize = TrajectorySize(),
        map: MapView = MapView(),
        conditioning: Conditioning | None = None,
        attention: Attention | None = None,
    ):
        super().__init__()
        if attention is not None and not isinstance(attention, Dense):
            raise BadValue(
                "attention", type(attention).__name__, "dense: a path has too few points for sparse attention"
            )
        spec, dim = interface.spec, size.dim
        maps = spec.context_shape[0] if spec.context_shape is not None else None
        if maps != COUNT:
            raise BadValue("context_channels", maps, f"{COUNT}, the maps of a maze, as data=maze has")
        if spec.channels != 2:
            raise BadValue("latent_channels", spec.channels, "2, the coordinates of a path, as data=maze has")
        self.register_buffer("mean", torch.tensor(spec.latents_mean or [0.0, 0.0]), persistent=False)
        self.register_buffer("std", torch.tensor(spec.latents_std or [1.0, 1.0]), persistent=False)
        self.window, self.conditioning = map.window, conditioning or Conditioning()
        self.map_encoder = MapEncoder(COUNT, map.dim, map.num_layers)
        shown = 2 + self.conditioning.count(interface) + 4  # state, keyframe channels, start and goal
        looked_up = map.dim + 2 + COUNT * map.window**2
        self.embed = nn.Linear(shown + looked_up, dim)
        self.sinusoids, self.time = Timesteps(dim, True, 0.0), TimestepEmbedding(dim, dim)
        self.place = Timesteps(dim, True, 0.0)
        self.frame_numbers = FrameNumbers(dim, dim)
        self.modulation = zeroed(nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(dim, size.num_heads, map.dim, map.places) for _ in range(size.num_layers))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, interface.out_channels)

    def zero_output(self) -> None:
        zeroed(self.head)

    def check(self, latent_shape: Sequence[int]) -> None:
        """Refuses anything but paths ``[2, t]``."""
        if len(latent_shape) != 2 or latent_shape[0] != 2:
            raise BadValue("latent_shape", list(latent_shape), "[2, t], paths as data=maze has")

    def forward(self, seen: Corrupted | Shown) -> Float[Tensor, "b o t"]:
        if isinstance(seen, Shown):
            raise BadValue(
                "backbone", "trajectory", "wan_tiny | wan_1_3b | factorised: a generator makes videos' keyframes"
            )
        maps, inputs = seen.clip.context, self.conditioning(seen)
        assert inputs.channels is not None  # made from a corrupted clip, so they exist
        assert inputs.numbers is not None
        if maps is None:
            raise BadValue("context", None, "the maps of every path's maze")
        maps, points = maps.to(inputs.state.dtype), self._on_map(seen.interpolation)
        features = self.map_encoder(maps)
        of_points = [inputs.state, inputs.channels, self._ends(maps, inputs.state)]
        of_points += [look_up(features, points), self._around(maps, points)]
        tokens = self.embed(torch.cat(of_points, 1).transpose(1, 2))
        tokens = tokens + self.place(torch.arange(tokens.shape[1], device=tokens.device)).to(tokens.dtype)
        modulation = self.modulation(F.silu(self._embed_time(inputs, tokens.dtype))).unflatten(2, (6, -1))
        for block in self.blocks:
            tokens = block(tokens, modulation, features, points)
        return self.head(self.norm(tokens)).transpose(1, 2).float()

    def _around(self, maps: Float[Tensor, "b k g h"], points: Float[Tensor, "b 2 t"]) -> Float[Tensor, "b n t"]:
        """The gradient of the signed distance at every point, and the maps in a window around it."""
        cell = torch.arange(self.window, device=maps.device) - self.window // 2
        offset = torch.stack(torch.meshgrid(cell / maps.shape[2], cell / maps.shape[3], indexing="ij")).flatten(1)
        window = look_up(maps, points.unsqueeze(3) + offset.view(1, 2, 1, -1))
        downhill = look_up(slope(maps[:, DISTANCE : DISTANCE + 1]), points)
        return torch.cat([downhill, window.transpose(2, 3).flatten(1, 2)], 1)

    def _ends(self, maps: Float[Tensor, "b k g h"], like: Float[Tensor, "b 2 t"]) -> Float[Tensor, "b 4 t"]:
        """Start and goal, which are marked in two of the maps, as latents, repeated for every point."""
        rows, columns = ((torch.arange(n, device=maps.device) + 0.5) / n for n in maps.shape[2:])
        marks = torch.stack([maps[:, START], maps[:, GOAL]], 1)  # an index list would be copied from the host to a GPU
        where = torch.stack([marks.sum(3) @ rows.to(maps.dtype), marks.sum(2) @ columns.to(maps.dtype)], 2)
        return ((where - self.mean) / self.std).flatten(1).unsqueeze(2).expand(-1, -1, like.shape[2])

    def _on_map(self, latents: Float[Tensor, "b 2 t"]) -> Float[Tensor, "b 2 t"]:
        """Rows and columns in 0..1."""
        return latents * self.std.view(2, 1) + self.mean.view(2, 1)

    def _embed_time(self, inputs: Shown, dtype: torch.dtype) -> Float[Tensor, "b t d"]:
        embedded = self.time(self.sinusoids(inputs.times.flatten()).to(dtype)).unflatten(0, inputs.times.shape)
        return embedded + self.frame_numbers(inputs.numbers)
