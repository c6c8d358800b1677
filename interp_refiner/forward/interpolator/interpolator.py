"""The base class of interpolators: keeps known frames, computes in float32, and never reads missing frames."""

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar, Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, Neighbours, Reflection, neighbours, per_frame

PART = "interpolator."  # prefix of the names of an interpolator's parts in a profile


@dataclass(frozen=True)
class Interpolation:
    """A sequence rebuilt from its known frames.

    Attributes:
        latents: ``zbar``.
        confidence: 1 on known frames; on missing ones the interpolator's own estimate, 0 if it has none. Per position,
            or with axes of size 1 for one number per frame.
        roughness: total variation of a learned flow, a penalty in its training; None without such a flow.
        hypotheses: the sequence rebuilt by k motion models, the first of which is ``latents``; None if there is only
            one.
        present: 0 where a hypothesis is undefined and equals ``latents``, up to 1 where it is fully defined; 1 for the
            first hypothesis. Per position, or with axes of size 1.
    """

    latents: Float[Tensor, "b c t *space"]
    confidence: Float[Tensor, "b t *ones"]
    roughness: Float[Tensor, ""] | None = None
    hypotheses: Float[Tensor, "b k c t *space"] | None = None
    present: Float[Tensor, "b k t *positions"] | None = None


@runtime_checkable
class PixelCodec(Protocol):
    """The parts of a codec that the forward process uses.

    For interpolation in pixels, it must be differentiable and have one pixel frame per latent frame.
    """

    temporal_factor: int
    caveat: str

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t y x"]:
        """Latents of about unit variance."""

    def decode(self, latents: Float[Tensor, "b c t y x"]) -> Float[Tensor, "b 3 t h w"]:
        """RGB in 0..1."""

    def reflections(self) -> tuple[Reflection, ...]:
        """Mirror operations along x and along y; empty if the latents have none."""


class Interpolator(nn.Module, ABC):
    """Fills missing frames from known ones (docs/method.md, Interpolators).

    Before the first and after the last known frame the nearest known frame is repeated; nothing is extrapolated.

    Attributes:
        segment_local: whether a missing frame of ``latents`` depends on its two bracketing keyframes only.
        keeps_known: whether :meth:`fill` itself returns known frames bit for bit, which saves a pass over memory.
        title: its name in tables; if empty, the name of the class.
        num_hypotheses: k, the number of hypotheses; 1 if ``latents`` is the only one.
    """

    segment_local: ClassVar[bool]
    keeps_known: ClassVar[bool] = False
    title: str = ""
    num_hypotheses: int = 1

    @final
    def forward(self, values: Float[Tensor, "b c t *space"], known: Bool[Tensor, "b t"]) -> Interpolation:
        """``zbar`` and its confidence.

        Args:
            values: keyframe values. Missing frames are never read and may hold anything, for example NaN.
            known: the keyframes, at least one per sample.

        Returns:
            ``latents`` in the dtype of ``values``, equal to it bit for bit on known frames. Half precision is computed
            in float32 and rounded once, also under autocast. The same holds for all ``hypotheses``; each is ``latents``
            bit for bit outside gaps and where ``present`` is 0.
        """
        near = neighbours(known)
        exact = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
        with torch.autocast(values.device.type, enabled=False):
            filled = self.fill(exact, near)
        self._check(filled, exact)
        latents = filled.latents
        if not self.keeps_known:
            latents = torch.where(per_frame(known, latents), exact, latents)
        on_known = known.view(*known.shape, *[1] * (filled.confidence.ndim - 2))
        confidence = filled.confidence.masked_fill(on_known, 1.0)
        hypotheses, present = filled.hypotheses, filled.present
        if hypotheses is not None and present is not None:
            present = inside_gaps(present, near)
            defined = (present > 0).view(*present.shape[:2], 1, *present.shape[2:])
            hypotheses = torch.where(defined, hypotheses, latents.unsqueeze(1)).to(values.dtype)
            present = torch.cat([torch.ones_like(present[:, :1]), present[:, 1:]], 1)
        return Interpolation(latents.to(values.dtype), confidence, filled.roughness, hypotheses, present)

    def _check(self, filled: Interpolation, values: Float[Tensor, "b c t *space"]) -> None:
        """Raises :class:`BadValue` if a result of :meth:`fill` has a wrong shape."""
        name, frames = type(self).__name__, (values.shape[0], *values.shape[2:])
        if filled.latents.shape != values.shape:
            raise BadValue(f"{name}.fill latents", list(filled.latents.shape), f"{list(values.shape)}, as its values")
        found = filled.confidence.shape
        axes = len(found) == len(frames) and found[:2] == frames[:2]
        if not axes or any(n not in (1, size) for n, size in zip(found, frames, strict=True)):
            allowed = f"{list(frames)}, [b, t, *space], where each axis of space may be 1"
            raise BadValue(f"{name}.fill confidence", list(found), allowed)

    def with_codec(self, codec: PixelCodec) -> "Interpolator":
        """A copy of this interpolator; its parts that work in pixels use this codec."""
        made = deepcopy(self)
        for part in made.modules():
            if isinstance(part, Interpolator):
                part.take_codec(codec)
        return made

    def take_codec(self, codec: PixelCodec) -> None:  # nothing to do in latents
        """Takes the codec of the clips, for interpolators that work in pixels."""

    @abstractmethod
    def fill(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        """Fills the missing frames of ``values`` (float32 or float64). Known frames of the result are ignored.

        If it returns ``hypotheses``, the first one equals ``latents``.
        """


def no_confidence(values: Float[Tensor, "b c t *space"]) -> Float[Tensor, "b t *ones"]:
    """0 for every frame: the interpolator does not estimate its own confidence."""
    return values.new_zeros(values.shape[0], values.shape[2], *[1] * (values.ndim - 3))


def inside_gaps(present: Float[Tensor, "b k t ..."], near: Neighbours) -> Float[Tensor, "b k t ..."]:
    """``present``, set to 0 on known frames and outside the outermost keyframes, where there is no motion."""
    inside = (~near.known & ~near.one_sided).unsqueeze(1)
    return torch.where(inside.view(*inside.shape, *[1] * (present.ndim - 3)), present, 0.0)
