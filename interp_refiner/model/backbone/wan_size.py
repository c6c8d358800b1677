"""The size of Wan's transformer, and of the layers that small networks have in addition."""

from collections.abc import Sequence
from dataclasses import dataclass

from diffusers import WanTransformer3DModel

from interp_refiner.core import BadValue, check_least
from interp_refiner.model.backbone.convolutions import Convolutions


@dataclass(frozen=True)
class WanSize:
    """The size of a ``WanTransformer3DModel``, by default Wan2.1 1.3B's.

    Attributes:
        num_layers, num_attention_heads, attention_head_dim, ffn_dim, freq_dim: as in diffusers.
        patch_size: frames, rows and columns of a token.
        convolutions: convolutions after the transformer, for small networks; they start at zero. None for none.
        word_reach: reach of a :class:`WordConvolution`, for captions without a language model; 0 for none.

    Raises:
        BadValue: a size below 1, a head dimension that rotary embeddings do not support, or a negative reach.
    """

    num_layers: int = 30
    num_attention_heads: int = 12
    attention_head_dim: int = 128
    ffn_dim: int = 8960
    freq_dim: int = 256
    patch_size: Sequence[int] = (1, 2, 2)
    convolutions: Convolutions | None = None
    word_reach: int = 0

    def __post_init__(self) -> None:
        if self.word_reach < 0:
            raise BadValue("word_reach", self.word_reach, "a number of words >= 0")
        check_least(self, num_layers=0, num_attention_heads=1, ffn_dim=1, freq_dim=1)
        if len(self.patch_size) != 3 or min(self.patch_size) < 1:
            raise BadValue("patch_size", list(self.patch_size), "three integers >= 1")
        if self.attention_head_dim < 6 or self.attention_head_dim % 2:
            allowed = "an even number >= 6, for rotary embeddings"
            raise BadValue("attention_head_dim", self.attention_head_dim, allowed)

    def transformer(self, **shape: int) -> WanTransformer3DModel:
        """A new transformer; ``shape``: ``in_channels``, ``out_channels`` and ``text_dim``."""
        named = {name: value for name, value in vars(self).items() if name not in ("convolutions", "word_reach")}
        return WanTransformer3DModel(**{**named, "patch_size": tuple(self.patch_size)}, **shape)
