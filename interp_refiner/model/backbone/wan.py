"""The refiner built on diffusers' ``WanTransformer3DModel``, for all sizes from 0.3M to 14B parameters."""

import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from math import prod

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, Corrupted
from interp_refiner.model.attention import Attention, Dense, Flops, Workload
from interp_refiner.model.backbone.attend import product_dtype, use_attention
from interp_refiner.model.backbone.backbone import Backbone, Interface
from interp_refiner.model.backbone.conditioning import Conditioning, FrameNumbers, MaskedKeyframes, frames_to_tokens
from interp_refiner.model.backbone.convolutions import ConvolutionalHead, WordConvolution
from interp_refiner.model.backbone.flops import wan_flops
from interp_refiner.model.backbone.lora import LoRA, merge
from interp_refiner.model.backbone.pretrained import load_pretrained
from interp_refiner.model.backbone.recomputation import Runner, activation_bytes, keep_all, kept_bytes
from interp_refiner.model.backbone.rotary import rotary_at
from interp_refiner.model.backbone.run_block import Blocks
from interp_refiner.model.backbone.shown import Shown
from interp_refiner.model.backbone.spread import Spread, Together
from interp_refiner.model.backbone.wan_size import WanSize
from interp_refiner.model.backbone.zeroed import zeroed

# Parts whose weights stay in float32 in a half-precision network, as in diffusers: rounding a modulation would shift
# all tokens of a frame in the same way.
KEPT = (
    "condition_embedder.time_",
    "scale_shift_table",
    ".norm1.",
    ".norm2.",
    ".norm3.",
    "frame_numbers",
    "convolutions.",
)


class Wan(Backbone):
    """Wan2.1's transformer, conditioned on keyframes; or the plain transformer, as a keyframe generator.

    All added layers start at zero: a second patch embedding for the keyframe channels (equivalent to a wider patch
    embedding), an MLP that adds per-frame numbers to the timestep embedding, and a second head for outputs other than
    latent channels. So the first output of a pretrained model equals the base model's bit for bit.

    Args:
        interface: channels in and out. Without an interpolation nothing is added to the transformer.
        size: of the transformer; None for Wan2.1 1.3B's.
        conditioning: how noise levels and keyframes become inputs; None for :class:`MaskedKeyframes` and
            :class:`PerFrame`.
        pretrained: weights of a Wan model, see :func:`load_pretrained`; its size replaces ``size`` except for
            ``convolutions`` and ``word_reach``.
        attention: the kind of self-attention; None for :class:`Dense`.
        blocks: how the blocks are computed; None for :class:`Blocks`' defaults.
        lora: adapters of the transformer, whose own weights are then frozen; None for full fine-tuning. The added
            layers are trained in both cases.

    Raises:
        BadValue: ``pretrained`` is not a Wan model, or was trained on other latents or text.
    """

    def __init__(
        self,
        interface: Interface,
        size: WanSize | None = None,
        conditioning: Conditioning | None = None,
        pretrained: str | None = None,
        attention: Attention | None = None,
        blocks: Blocks | None = None,
        lora: LoRA | None = None,
    ):
        super().__init__()
        spec, self.interface, size = interface.spec, interface, size or WanSize()
        self.conditioning = conditioning or Conditioning(keyframe_channels=MaskedKeyframes())
        blocks = blocks or Blocks()
        shape = {"in_channels": spec.channels, "out_channels": spec.channels, "text_dim": spec.text_dim}
        self.pretrained = pretrained is not None
        if pretrained is not None:
            self.wan = load_pretrained(pretrained, size.attention_head_dim, **shape)
        else:
            self.wan = size.transformer(**shape)
        self.attention = attention or Dense()
        # tuples, because the weights of the layers belong to their blocks and not to this module
        self.self_layers, self.cross_layers = use_attention(self.wan, self.attention)
        (lora or LoRA()).attach(self.wan)
        for layer in (*self.self_layers, *self.cross_layers):
            layer.requires_grad_(True)
        self.compiled = blocks.compile
        self.recomputation, run = blocks.recomputation, blocks.forward(self.attention.compiler_options)
        for block in self.wan.blocks:
            block.forward = partial(run, block)  # inside the block's hooks, which sharding strategies need
        self.spread: Spread = Together()
        patch = self.wan.patch_embedding
        self.keyframe_embedding = self.frame_numbers = None
        if count := self.conditioning.count(interface):
            kernel = {"kernel_size": patch.kernel_size, "stride": patch.stride}
            self.keyframe_embedding = zeroed(nn.Conv3d(count, patch.out_channels, bias=False, **kernel))
            # Added to the embedding (for the head) and its six projections (for the blocks), after Wan's own layers:
            # a sum with 0 is exact, whereas a matrix product of another size may round differently.
            self.frame_numbers = FrameNumbers(patch.out_channels, 7 * patch.out_channels)
        self.words = WordConvolution(patch.out_channels, size.word_reach) if size.word_reach else None
        convolutions = size.convolutions
        features = convolutions.dim if convolutions else 0
        more = prod(patch.kernel_size) * (interface.out_channels + features - spec.channels)
        self.second_head = zeroed(nn.Linear(patch.out_channels, more)) if more else None
        channels = spec.channels, interface.out_channels, patch.out_channels
        self.convolutions = ConvolutionalHead(convolutions, *channels) if convolutions else None

    @property
    def divisor(self) -> tuple[int, int]:
        _, rows, columns = self.wan.config.patch_size
        return rows, columns

    @property
    def transformer(self) -> tuple[str, nn.Module]:
        return "wan", self.wan

    @property
    def units(self) -> Sequence[nn.Module]:
        return tuple(self.wan.blocks)

    def zero_output(self) -> None:
        if self.pretrained:
            warnings.warn("a zero head replaces the pretrained proj_out; objective=velocity keeps it", stacklevel=2)
        self.wan.proj_out.requires_grad_(True)
        zeroed(self.wan.proj_out)
        if self.second_head is not None:
            zeroed(self.second_head)
        if self.convolutions is not None:
            zeroed(self.convolutions.out)

    def identity_parts(self, stored: Collection[str]) -> set[str]:
        has_words = any(name.startswith("words.") for name in stored)
        return set() if has_words else {name for name in self.state_dict() if name.startswith("words.")}

    def spread_tokens(self, spread: Spread) -> None:
        self.spread = spread
        for block in self.wan.blocks:
            block.attn1.processor.spread = spread

    @property
    def unchanged(self) -> frozenset[str]:
        frozen = {name for name, weight in self.named_parameters() if not weight.requires_grad}
        return frozenset(frozen if self.pretrained else ())

    def cast(self, dtype: torch.dtype) -> None:
        for name, weight in self.named_parameters():
            weight.data = weight.data.to(torch.float32 if any(part in name for part in KEPT) else dtype)

    def merge_adapters(self) -> bool:
        if not (merged := merge(self.wan)):
            return False
        self.adapters = merged
        self.requires_grad_(True)
        return True

    def forward(self, seen: Corrupted | Shown) -> Float[Tensor, "b o t h w"]:
        seen = self.conditioning(seen)
        self.check(seen.state.shape[1:])
        kind = self.wan.patch_embedding.weight.dtype  # cast here: a clip in half precision would round given frames
        patches = self.wan.patch_embedding(seen.state.to(kind))
        if self.keyframe_embedding is not None and seen.channels is not None:
            patches = patches + self.keyframe_embedding(seen.channels.to(kind))
        _, _, t, h, w = patches.shape
        tokens = rearrange(patches, "b d t h w -> b (t h w) d").contiguous()
        embedded, projected = self._embed_time(seen)
        time, modulation = (frames_to_tokens(v, h * w) for v in (embedded, projected))
        text = self._text(seen, tokens.dtype)
        order = self.attention.order((t, h, w), tokens.device)
        angles = rotary_at(self.wan.rope, seen.positions, (t, h, w))
        of_tokens: tuple[Tensor, ...] = (tokens, time, modulation, *angles)
        if order is not None:
            of_tokens = tuple(order.apply(x) for x in of_tokens)
        self.spread.check(t * h * w, self.wan.config.num_attention_heads)
        tokens, time, modulation, *rotary = (self.spread.part(x) for x in of_tokens)
        values = self.spread.join(self._head(self._run_blocks(tokens, text, modulation, tuple(rotary)), time))
        clip = self._clip(values if order is None else order.undo(values), (t, h, w))
        if self.convolutions is None:
            return clip
        own, features = clip.tensor_split([self.interface.out_channels], dim=1)
        return self.convolutions(own, features, seen.state, embedded)

    def grid(self, latent_shape: Sequence[int]) -> list[int]:
        """Frames, rows and columns of the tokens of a clip ``[c, t, h, w]``."""
        return [size // patch for size, patch in zip(latent_shape[1:], self.wan.config.patch_size, strict=True)]

    def tokens(self, latent_shape: Sequence[int]) -> int:
        return prod(self.grid(latent_shape))

    def flops(self, batch: int, latent_shape: Sequence[int], text_tokens: int) -> Flops:
        """Operations of one forward pass over ``batch`` clips ``[c, t, h, w]``."""
        grid = self.grid(latent_shape)
        channels = self.conditioning.count(self.interface) + self.interface.out_channels - latent_shape[0]
        times, beside = self.conditioning.timestep.count(grid[0]), Flops()
        if self.convolutions is not None:
            channels += self.convolutions.dim
            beside += self.convolutions.flops(batch * prod(latent_shape[1:]), batch * times)
        if self.words is not None:
            beside += self.words.flops(batch * text_tokens)
        return wan_flops(self.wan, self.attention, batch, grid, text_tokens, channels, times) + beside

    def activation_bytes(self, batch: int, latent_shape: Sequence[int], text_tokens: int, passes: int = 1) -> int:
        """See :func:`activation_bytes`."""
        size, tokens = self.wan.config, self.tokens(latent_shape)
        products = self._kept_bytes(batch, tokens, text_tokens, torch.bfloat16.itemsize)
        runners = passes * self.recomputation.runners(size.num_layers, products)
        dim = size.num_attention_heads * size.attention_head_dim
        return activation_bytes(runners, batch * tokens, dim, size.ffn_dim, products, passes)

    def kernels(self) -> dict[str, str]:
        return {"self_attention": self.self_layers[0].chosen, "cross_attention": self.cross_layers[0].chosen}

    def check(self, latent_shape: Sequence[int]) -> None:
        """Refuses clips that are not videos, and sizes that ``WanTransformer3DModel`` would silently crop."""
        patch = self.wan.config.patch_size
        if len(latent_shape) != 4:
            allowed = "[c, t, h, w], videos (paths through mazes have backbone=trajectory, as in +experiment=maze)"
            raise BadValue("latent_shape", list(latent_shape), allowed)
        if any(size % p for size, p in zip(latent_shape[1:], patch, strict=True)):
            sizes = " x ".join(map(str, patch))
            raise BadValue("latent_shape", list(latent_shape), f"frames, height and width divisible by {sizes}")

    def _embed_time(self, seen: Shown) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t 6 d"]]:
        """Wan's timestep embedding and its six projections, each plus the embedding of the frame's numbers.

        Computed in the precision of the weights even under autocast, as in Wan's training: rounding a modulation to
        bfloat16 would change ``1 + scale`` by up to 0.4%, equally for all tokens of a frame, in every block.
        """
        embedder = self.wan.condition_embedder
        with torch.autocast(seen.times.device.type, enabled=False):
            sinusoids = embedder.timesteps_proj(seen.times.flatten()).to(embedder.time_embedder.linear_1.weight.dtype)
            embedded = embedder.time_embedder(sinusoids.unflatten(0, seen.times.shape))
            projected = embedder.time_proj(embedder.act_fn(embedded)).unflatten(2, (6, -1))
            if self.frame_numbers is None or seen.numbers is None:
                return embedded, projected
            numbers = rearrange(self.frame_numbers(seen.numbers), "b t (seven d) -> b t seven d", seven=7)
            return embedded + numbers[:, :, 0], projected + numbers[:, :, 1:]

    def _text(self, seen: Shown, dtype: torch.dtype) -> Float[Tensor, "b l d"]:
        text = seen.text
        if text is None:  # unconditional data: one zero token, because cross-attention needs a key
            text = torch.zeros(len(seen.state), 1, self.wan.config.text_dim, device=seen.state.device)
        words = self.wan.condition_embedder.text_embedder(text.to(dtype))
        return words if self.words is None else self.words(words)

    def _run_blocks(
        self, tokens: Tensor, text: Tensor, modulation: Tensor, rotary: tuple[Tensor, ...]
    ) -> Float[Tensor, "b n d"]:
        work = self._workload(tokens)
        seen, heads = self.spread.in_attention(work.queries, work.heads)
        for own, cross in zip(self.self_layers, self.cross_layers, strict=True):
            own.prepare(replace(work, queries=seen, keys=seen, heads=heads))
            cross.prepare(replace(work, keys=text.shape[1]))
        for block, runner in zip(self.wan.blocks, self._runners(work, text.shape[1]), strict=True):
            tokens = block(tokens, text, modulation, rotary, runner=runner)
        return tokens

    def _workload(self, tokens: Float[Tensor, "b n d"]) -> Workload:
        """The workload of self-attention in every block."""
        (b, n, _), size = tokens.shape, self.wan.config
        sizes = b, n, n, size.num_attention_heads, size.attention_head_dim
        return Workload(*sizes, tokens.device, product_dtype(tokens), training=torch.is_grad_enabled())

    def _runners(self, work: Workload, text_tokens: int) -> list[Runner]:
        """The runner of each block; recomputation only in training."""
        if not work.training:
            return [keep_all] * self.wan.config.num_layers
        kept = self._kept_bytes(work.batch, work.queries, text_tokens, work.dtype.itemsize)
        return self.recomputation.runners(self.wan.config.num_layers, kept)

    def _kept_bytes(self, batch: int, tokens: int, text_tokens: int, itemsize: int) -> int:
        """Bytes that :func:`keep_products` keeps in one block."""
        size = self.wan.config
        heads, width = size.num_attention_heads, size.attention_head_dim
        kept = kept_bytes(batch, tokens, text_tokens, heads * width, size.ffn_dim, itemsize)
        return kept + self.attention.kept_bytes(batch, heads, tokens, width, itemsize)

    def _head(self, tokens: Float[Tensor, "b n d"], time: Float[Tensor, "b n d"]) -> Float[Tensor, "b n v"]:
        """Modulated norm and projection to the values of a patch; at every position, latent channels come first."""
        shift, scale = (self.wan.scale_shift_table.unsqueeze(1) + time.unsqueeze(2)).unbind(2)
        tokens = (self.wan.norm_out(tokens.float()) * (1 + scale) + shift).type_as(tokens)
        values = self.wan.proj_out(tokens)
        if self.second_head is None:
            return values
        positions = (prod(self.wan.config.patch_size), -1)
        both = [part.unflatten(2, positions) for part in (values, self.second_head(tokens))]
        return torch.cat(both, 3).flatten(2)

    def _clip(self, values: Float[Tensor, "b n v"], grid: tuple[int, int, int]) -> Float[Tensor, "b o t h w"]:
        """Patches back to latents."""
        (t, h, w), (pt, ph, pw) = grid, self.wan.config.patch_size
        pattern = "b (t h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)"
        return rearrange(values.float(), pattern, t=t, h=h, w=w, pt=pt, ph=ph, pw=pw)
