"""Any interpolator, in the pixels that a codec decodes latents to."""

from copy import deepcopy
from typing import ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import BadValue, Neighbours, move
from interp_refiner.forward.interpolator.interpolator import Interpolation, Interpolator
from interp_refiner.forward.interpolator.learned import Learned
from interp_refiner.forward.interpolator.linear import lerp_frames


@runtime_checkable
class PixelCodec(Protocol):
    """What is needed of a codec: a differentiable way to pixels and back, one pixel frame per latent frame."""

    temporal_factor: int
    caveat: str

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t y x"]:
        """Latents of about unit variance."""

    def decode(self, latents: Float[Tensor, "b c t y x"]) -> Float[Tensor, "b 3 t h w"]:
        """RGB in 0..1."""


class InPixels(Learned):
    """Adds to linear interpolation what another interpolator gains over it in pixels:

        zbar = linear(z) + E(inner(D z)) - E(linear(D z))

    with ``D, E`` the codec. Block-transform latents of a moving picture do not shift, its pixels do. What the codec
    loses cancels: wherever ``inner`` is linear interpolation this is too, bit for bit.

    Args:
        inner: the interpolator in pixels, ``[b, 3, t, H, W]`` in 0..1.
        codec: with one pixel frame per latent frame; None until :func:`use_codec` hands over that of the data set.
        checkpoint: weights to load and freeze, ``inner``'s included, see :meth:`Freezable.freeze`; None to train it.

    Raises:
        BadValue: a codec that cannot encode, or with several pixel frames per latent frame.
    """

    segment_local: ClassVar[bool]  # as inner

    def __init__(self, inner: Interpolator, codec: PixelCodec | None = None, checkpoint: str | None = None):
        super().__init__()
        self.inner = inner
        self.segment_local = inner.segment_local  # type: ignore[misc]
        self.penalised = inner.penalised if isinstance(inner, Learned) else ()
        self._codec: list[PixelCodec] = []  # in a list, since a codec's weights are none of an interpolator's
        if codec is not None:
            self.set_codec(codec)
        self.freeze(checkpoint)

    def set_codec(self, codec: PixelCodec) -> None:
        """Takes a copy, which follows the device of the batch."""
        if codec.temporal_factor != 1 or codec.caveat:
            name = getattr(codec, "name", type(codec).__name__)
            allowed = "a codec that encodes and has one pixel frame per latent frame, for interpolation in pixels"
            raise BadValue("codec", name, allowed)
        copied = deepcopy(codec)
        if isinstance(copied, torch.nn.Module):
            copied.requires_grad_(False)
        self._codec = [copied]

    def codec_on(self, device: torch.device) -> PixelCodec:
        """The codec, moved to ``device``."""
        if not self._codec:
            raise BadValue("codec", None, "a codec: interpolation in pixels decodes keyframes")
        (codec,) = self._codec
        if isinstance(codec, torch.nn.Module):
            move(codec, device)
        return codec

    def rebuild(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        codec = self.codec_on(values.device)
        pixels = codec.decode(values)
        filled = self.inner(pixels, near.known)
        gain = codec.encode(filled.latents) - codec.encode(lerp_frames(pixels, near))
        confidence = F.adaptive_avg_pool2d(filled.confidence, (values.shape[3], values.shape[4]))
        inside = (~near.known & ~near.one_sided).view(*near.known.shape, 1, 1)
        latents = lerp_frames(values, near) + torch.where(inside.unsqueeze(1), gain, 0.0)
        return Interpolation(latents, confidence, filled.roughness)

    def penalties(
        self, clean: Float[Tensor, "b c t *space"], known: Bool[Tensor, "b t"], filled: Interpolation
    ) -> dict[str, Tensor]:
        if not isinstance(self.inner, Learned):
            return {}
        return self.inner.penalties(self.codec_on(clean.device).decode(clean), known, filled)


def use_codec(interpolator: Interpolator, codec: PixelCodec, instead: bool = False) -> None:
    """Hands a codec to every part of an interpolator that works in pixels and has none, or ``instead`` of its own."""
    for part in interpolator.modules():
        if isinstance(part, InPixels) and (instead or not part._codec):
            part.set_codec(codec)
