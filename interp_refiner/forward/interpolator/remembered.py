"""An interpolator that keeps what it has made: motion is matched once per clip and plan, not in every epoch."""

from dataclasses import fields
from hashlib import blake2b
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import Neighbours, non_negative
from interp_refiner.forward.interpolator.interpolator import Interpolation, Interpolator

Kept = dict[str, Tensor]  # the fields of one sample's interpolation, in float16


class Remembered(Interpolator):
    """Any interpolator; on the CPU what it returns is kept in memory, by the content of the keyframes.

    Whoever asks, the same keyframes have the same interpolation, so nothing has to be invalidated. It is
    rounded to float16, the first time as well. On other devices, where matching is fast, nothing is kept.

    Args:
        inner: the interpolator; it is not trained.
        gigabytes: of memory, at most; once they are full, what is new is made anew every time.

    Raises:
        BadValue: a size below 0.
    """

    segment_local: ClassVar[bool]  # as inner

    def __init__(self, inner: Interpolator, gigabytes: float = 4.0):
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.segment_local = inner.segment_local  # type: ignore[misc]
        self.num_hypotheses = inner.num_hypotheses
        self.room = int(1e9 * non_negative("gigabytes", gigabytes, "the memory that interpolations may take"))
        self.kept: dict[bytes, Kept] = {}

    def fill(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        if values.device.type != "cpu":
            return self.inner(values, near.known)
        names = [fingerprint(sample, known) for sample, known in zip(values, near.known, strict=True)]
        new = [row for row, name in enumerate(names) if name not in self.kept]
        made: dict[bytes, Kept] = {}
        if new:
            filled = self.inner(values[new], near.known[new])
            for place, row in enumerate(new):
                made[names[row]] = part(filled, place)
                self.keep(names[row], made[names[row]])
        rows = [self.kept.get(name) or made[name] for name in names]
        whole = {name: torch.stack([row[name] for row in rows]).to(values.dtype) for name in rows[0]}
        return Interpolation(**whole)

    def keep(self, name: bytes, sample: Kept) -> None:
        """Adds a sample, if there is room."""
        size = sum(tensor.nbytes for tensor in sample.values())
        if size <= self.room:
            self.kept[name] = sample
            self.room -= size


def fingerprint(values: Float[Tensor, "c t *space"], known: Bool[Tensor, " t"]) -> bytes:
    """Of the keyframes and of where they are."""
    keyframes = values[:, known].contiguous()
    return blake2b(keyframes.numpy().tobytes() + known.numpy().tobytes(), digest_size=16).digest()


def part(filled: Interpolation, row: int) -> Kept:
    """What a batch of interpolations says of one sample; the roughness of a flow, one number for all, is left out."""
    whole = {f.name: getattr(filled, f.name) for f in fields(filled) if f.name != "roughness"}
    return {name: value[row].half() for name, value in whole.items() if value is not None}
