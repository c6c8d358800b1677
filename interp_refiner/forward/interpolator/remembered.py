"""Caches the results of an interpolator, so motion is matched once per set of keyframes, not in every epoch."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import Neighbours, non_negative
from interp_refiner.forward.interpolator.interpolator import Interpolation, Interpolator


@dataclass(frozen=True)
class Kept:
    """The cache entry of one sample: ``zbar`` and confidence unchanged, ``h_j - zbar`` and ``present`` in float16."""

    latents: Float[Tensor, "c t *space"]
    confidence: Float[Tensor, " t *ones"]
    offsets: Float[Tensor, "n c t *space"] | None
    present: Float[Tensor, "k t *ones"] | None

    @property
    def nbytes(self) -> int:
        parts = (self.latents, self.confidence, self.offsets, self.present)
        return sum(tensor.nbytes for tensor in parts if tensor is not None)


class Remembered(Interpolator):
    """Caches the results of an interpolator in CPU memory, by the content of the keyframes.

    The same keyframes always have the same interpolation, so an entry never becomes invalid. ``zbar`` is stored as it
    is, ``h_j - zbar`` and ``present`` in float16. The result of the first call is rounded in the same way. On a GPU,
    where matching is fast, nothing is cached.

    Args:
        inner: the interpolator; it is not trained.
        gigabytes: the size limit of the cache, in 10^9 bytes; results beyond it are recomputed every time.

    Raises:
        BadValue: a size below 0.
    """

    segment_local: ClassVar[bool]  # as inner

    def __init__(self, inner: Interpolator, gigabytes: float = 4.0):
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.segment_local = inner.segment_local  # type: ignore[misc]
        self.num_hypotheses, self.title = inner.num_hypotheses, inner.title
        self.free_bytes = int(1e9 * non_negative("gigabytes", gigabytes, "the size limit of the cache"))
        self.entries: dict[bytes, Kept] = {}

    def fill(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        if values.device.type != "cpu" or values.requires_grad:  # entries have no gradient
            return self.inner(values, near.known)
        keys = [fingerprint(sample, known) for sample, known in zip(values, near.known, strict=True)]
        new = [row for row, key in enumerate(keys) if key not in self.entries]
        made = {}
        if new:
            filled = self.inner(values[new], near.known[new])
            made = {keys[row]: sample(filled, place) for place, row in enumerate(new)}
        for key, entry in made.items():
            if entry.nbytes <= self.free_bytes:
                self.entries[key], self.free_bytes = entry, self.free_bytes - entry.nbytes
        return batch([made[key] if key in made else self.entries[key] for key in keys])


def fingerprint(values: Float[Tensor, "c t *space"], known: Bool[Tensor, " t"]) -> bytes:
    """A digest of the keyframes and their places."""
    keyframes = values[:, known].contiguous()
    content = str(values.shape).encode() + keyframes.numpy().tobytes() + known.numpy().tobytes()
    return blake2b(content, digest_size=16).digest()


def sample(filled: Interpolation, row: int) -> Kept:
    """One sample of a batch, without the roughness, which is one number for the whole batch."""
    latents, confidence = filled.latents[row].clone(), filled.confidence[row].clone()
    if filled.hypotheses is None or filled.present is None:
        return Kept(latents, confidence, None, None)
    offsets = filled.hypotheses[row, 1:] - filled.latents[row]
    return Kept(latents, confidence, offsets.half(), filled.present[row].half())


def batch(samples: list[Kept]) -> Interpolation:
    """One batch from samples of one interpolator."""
    latents = torch.stack([entry.latents for entry in samples])
    confidence = torch.stack([entry.confidence for entry in samples])
    offsets = [entry.offsets for entry in samples if entry.offsets is not None]
    present = [entry.present for entry in samples if entry.present is not None]
    if not offsets:
        return Interpolation(latents, confidence)
    zbar = latents.unsqueeze(1)
    hypotheses = torch.cat([zbar, zbar + torch.stack(offsets).to(latents.dtype)], 1)
    return Interpolation(latents, confidence, None, hypotheses, torch.stack(present).to(latents.dtype))
