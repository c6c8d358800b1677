"""Any interpolator, in the pixels that a codec decodes latents to."""

from copy import deepcopy
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import BadValue, Neighbours, move
from interp_refiner.forward.interpolator.interpolator import Interpolation, Interpolator, PixelCodec
from interp_refiner.forward.interpolator.learned import Learned
from interp_refiner.forward.interpolator.linear import lerp_frames


class InPixels(Learned):
    """Adds the gain of another interpolator in pixels to linear interpolation:

        zbar = linear(z) + E(inner(D z)) - E(linear(D z))

    with ``D`` and ``E`` the codec's decoder and encoder. When a picture moves, its pixels shift, but block-transform
    latents do not. The codec's error cancels: wherever ``inner`` is linear interpolation, the result is ``linear(z)``,
    bit for bit.

    Args:
        inner: the interpolator in pixels, ``[b, 3, t, H, W]`` in 0..1.
        codec: has one pixel frame per latent frame; None for the clips' codec, see :meth:`Interpolator.with_codec`.
        checkpoint: weights to load and freeze, ``inner``'s included, see :meth:`Freezable.freeze`; None to train it.

    Raises:
        BadValue: a codec that cannot encode, or with several pixel frames per latent frame.
    """

    segment_local: ClassVar[bool]  # as inner

    def __init__(self, inner: Interpolator, codec: PixelCodec | None = None, checkpoint: str | None = None):
        super().__init__()
        self.inner = inner
        self.segment_local = inner.segment_local  # type: ignore[misc]
        self.num_hypotheses = inner.num_hypotheses
        self.penalised = inner.penalised if isinstance(inner, Learned) else ()
        self._codec: list[PixelCodec] = []  # in a list, so that its weights are not the interpolator's
        if codec is not None:
            self.take_codec(codec)
        self.has_own_codec = codec is not None
        self.freeze(checkpoint)

    def take_codec(self, codec: PixelCodec) -> None:
        """Keeps a copy, which follows the device of the batch. A codec given to the constructor is not replaced."""
        if getattr(self, "has_own_codec", False):
            return
        if codec.temporal_factor != 1 or codec.caveat:
            name = getattr(codec, "name", type(codec).__name__)
            allowed = "a codec that encodes and has one pixel frame per latent frame, for interpolation in pixels"
            remedy = (
                "to train in latents: matching=motion_hypotheses, or an interpolator that is not remembered or _pixels"
            )
            raise BadValue("codec", name, f"{allowed}; {remedy}")
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
        space = (values.shape[3], values.shape[4])
        linear, linear_encoded = lerp_frames(values, near), codec.encode(lerp_frames(pixels, near))
        inside = (~near.known & ~near.one_sided).view(near.known.shape[0], 1, -1, 1, 1)

        def encode(rebuilt: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t y x"]:
            return linear + torch.where(inside, codec.encode(rebuilt) - linear_encoded, 0.0)

        latents, confidence = encode(filled.latents), F.adaptive_avg_pool2d(filled.confidence, space)
        if filled.hypotheses is None or filled.present is None:
            return Interpolation(latents, confidence, filled.roughness)
        others = [encode(rebuilt) for rebuilt in filled.hypotheses[:, 1:].unbind(1)]
        present = F.adaptive_avg_pool2d(filled.present.flatten(0, 1), space).unflatten(0, filled.present.shape[:2])
        return Interpolation(latents, confidence, filled.roughness, torch.stack([latents, *others], 1), present)

    def penalties(
        self, clean: Float[Tensor, "b c t *space"], known: Bool[Tensor, "b t"], filled: Interpolation
    ) -> dict[str, Tensor]:
        if not isinstance(self.inner, Learned):
            return {}
        return self.inner.penalties(self.codec_on(clean.device).decode(clean), known, filled)
