"""The refiner built on diffusers' ``LTXVideoTransformer3DModel``: a model family other than Wan, same interface."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import final

import torch
from diffusers import LTXVideoTransformer3DModel
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, Corrupted, check_least, fetch
from interp_refiner.model.attention import Attention, Dense
from interp_refiner.model.backbone.backbone import Backbone, Interface
from interp_refiner.model.backbone.conditioning import Conditioning, FrameNumbers, MaskedKeyframes, frames_to_tokens
from interp_refiner.model.backbone.pretrained import TRANSFORMER, load_saved
from interp_refiner.model.backbone.shown import Shown
from interp_refiner.model.backbone.zeroed import zeroed

FPS = 25.0  # of the model's training; used for clips that declare none


@dataclass(frozen=True)
class LTXSize:
    """The size of a :class:`LTX`, as in ``LTXVideoTransformer3DModel``; the width is heads times their dimension."""

    num_layers: int = 28
    num_attention_heads: int = 32
    attention_head_dim: int = 64

    def __post_init__(self) -> None:
        check_least(self, num_layers=0, num_attention_heads=1, attention_head_dim=1)


@final
class LTX(Backbone):
    """LTX-Video's transformer, conditioned on keyframes. A token is one latent position and has its own timestep.

    As in :class:`Wan`, all added layers start at zero: an embedding of the keyframe channels added to ``proj_in``, an
    MLP that adds per-frame numbers to the timestep embedding, and a second head.

    Args:
        interface: channels in and out.
        size: of the transformer.
        conditioning: how noise levels and keyframes become inputs; None for :class:`MaskedKeyframes` and
            :class:`PerFrame`.
        pretrained: a diffusers folder or a model of the hub; its size replaces ``size``.
        attention: dense attention or None.

    Raises:
        BadValue: sparse attention; ``pretrained`` is not an LTX model, or was trained on other latents or text.
    """

    def __init__(
        self,
        interface: Interface,
        size: LTXSize = LTXSize(),
        conditioning: Conditioning | None = None,
        pretrained: str | None = None,
        attention: Attention | None = None,
    ):
        super().__init__()
        if attention is not None and not isinstance(attention, Dense):
            raise BadValue("attention", type(attention).__name__, "dense: LTX keeps diffusers' own attention")
        spec, self.interface = interface.spec, interface
        self.conditioning = conditioning or Conditioning(keyframe_channels=MaskedKeyframes())
        shape = {"in_channels": spec.channels, "out_channels": spec.channels, "caption_channels": spec.text_dim}
        if pretrained is not None:
            root = fetch("pretrained", pretrained, [TRANSFORMER])
            self.ltx = load_saved(LTXVideoTransformer3DModel, pretrained, root, shape)
        else:
            width = size.num_attention_heads * size.attention_head_dim
            self.ltx = LTXVideoTransformer3DModel(**asdict(size), cross_attention_dim=width, **shape)
        dim = self.ltx.proj_in.out_features
        self.keyframe_embedding = self.frame_numbers = None
        if count := self.conditioning.count(interface):
            self.keyframe_embedding = zeroed(nn.Linear(count, dim, bias=False))
            self.frame_numbers = FrameNumbers(dim, 7 * dim)  # for the embedding and its six projections
        more = interface.out_channels - spec.channels
        self.second_head = zeroed(nn.Linear(dim, more)) if more else None
        factors = spec.codec.get("temporal_factor", 1), spec.codec.get("spatial_factor", 1)
        self.scale = factors[0] / (spec.fps or FPS), float(factors[1])  # seconds per frame, pixels per row and column

    @property
    def transformer(self) -> tuple[str, nn.Module]:
        return "ltx", self.ltx

    @property
    def units(self) -> Sequence[nn.Module]:
        return tuple(self.ltx.transformer_blocks)

    def zero_output(self) -> None:
        for head in filter(None, (self.ltx.proj_out, self.second_head)):
            zeroed(head)

    def check(self, latent_shape: Sequence[int]) -> None:
        """Refuses clips that are not videos ``[c, t, h, w]``."""
        if len(latent_shape) != 4:
            raise BadValue("latent_shape", list(latent_shape), "[c, t, h, w], videos")

    def tokens(self, latent_shape: Sequence[int]) -> int:
        return prod(latent_shape[1:])

    def forward(self, seen: Corrupted | Shown) -> Float[Tensor, "b o t h w"]:
        seen = self.conditioning(seen)
        self.check(seen.state.shape[1:])
        _, _, t, h, w = seen.state.shape
        tokens = self.ltx.proj_in(as_tokens(seen.state))
        if self.keyframe_embedding is not None and seen.channels is not None:
            tokens = tokens + self.keyframe_embedding(as_tokens(seen.channels))
        rotary = self.ltx.rope(tokens, video_coords=self._coordinates(seen))
        time, modulation = (frames_to_tokens(v, h * w) for v in self._embed_time(seen, tokens.dtype))
        text, mask = self._text(seen, tokens)
        for block in self.ltx.transformer_blocks:
            tokens = block(tokens, text, modulation, rotary, mask)
        shift, scale = (self.ltx.scale_shift_table + time.unsqueeze(2)).unbind(2)
        tokens = self.ltx.norm_out(tokens) * (1 + scale) + shift
        values = self.ltx.proj_out(tokens)
        if self.second_head is not None:
            values = torch.cat([values, self.second_head(tokens)], 2)
        return rearrange(values.float(), "b (t h w) o -> b o t h w", t=t, h=h, w=w)

    def _embed_time(self, seen: Shown, dtype: torch.dtype) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t six_d"]]:
        """LTX's timestep embedding and its six projections, each plus the embedding of the frame's numbers."""
        b, t = len(seen.state), seen.state.shape[2]
        times = seen.times.expand(-1, t)
        parts = self.ltx.time_embed(times.flatten(), batch_size=b, hidden_dtype=dtype)
        projected, embedded = (part.unflatten(0, (b, t)) for part in parts)
        if self.frame_numbers is None or seen.numbers is None:
            return embedded, projected
        numbers, dim = self.frame_numbers(seen.numbers), embedded.shape[2]
        return embedded + numbers[..., :dim], projected + numbers[..., dim:]

    def _text(self, seen: Shown, tokens: Tensor) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b 1 l"]]:
        """The prompt, and the attention bias of its tokens: -10^4 after its end, where embeddings are zero."""
        text = seen.text
        if text is None:
            text = tokens.new_zeros(len(tokens), 1, self.ltx.config.caption_channels)
        padding = (text == 0).all(2) & (text != 0).flatten(1).any(1, keepdim=True)
        return self.ltx.caption_projection(text.to(tokens.dtype)), (-1e4 * padding.to(tokens.dtype)).unsqueeze(1)

    def _coordinates(self, seen: Shown) -> Float[Tensor, "b 3 n"]:
        """Seconds, rows and columns of every token, in pixels."""
        b, _, t, h, w = seen.state.shape
        device = seen.state.device
        at = torch.arange(t, device=device).expand(b, t) if seen.positions is None else seen.positions
        seconds, pixels = self.scale
        frames = (seconds * at.float())[:, :, None, None].expand(b, t, h, w)
        rows = (pixels * torch.arange(h, device=device).float())[:, None].expand(b, t, h, w)
        columns = (pixels * torch.arange(w, device=device).float()).expand(b, t, h, w)
        return torch.stack([frames, rows, columns], 1).flatten(2)


def as_tokens(values: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b n c"]:
    """Every latent position as a token, frames outermost."""
    return rearrange(values, "b c t h w -> b (t h w) c")
