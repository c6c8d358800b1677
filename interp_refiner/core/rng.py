"""Random numbers as functions of names, without a generator state.

Every draw of the corruption is a function of (seed, stream, epoch, sample key) in training and of (seed, stream, sample
key) in validation (docs/method.md, Randomness), and of the draw's own name. Nothing is kept between draws. So the
result does not depend on rank, world size, batch size, accumulation or history, and a resumed run needs no generator
state.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts; equal parts give equal seeds on every machine and Python version."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class Draws:
    """The random numbers of one batch: sample i draws from (seed, stream, epochs[i], keys[i], name).

    Args:
        seed: the run's seed.
        stream: the use of the numbers (``"train"``, ``"val"``, ``"sample"``).
        keys: the samples' keys, length b.
        epochs: each sample's own epoch (a batch may straddle two), or None where draws are the same in every epoch.
    """

    seed: int
    stream: str
    keys: Sequence[str]
    epochs: Sequence[int] | None = None

    def seeds(self, name: str) -> list[int]:
        """One 63-bit seed per sample for the draw called ``name``."""
        epochs = self.epochs if self.epochs is not None else [""] * len(self.keys)
        return [derived_seed(self.seed, self.stream, e, k, name) for e, k in zip(epochs, self.keys, strict=True)]

    def uniform(self, name: str, size: int, device: torch.device | str = "cpu") -> Float[Tensor, "b {size}"]:
        """Uniform numbers in [0, 1), drawn on the host (the same on every device) and copied over."""
        out = torch.empty(len(self.keys), size)
        for row, seed in zip(out, self.seeds(name), strict=True):
            row.uniform_(generator=torch.Generator().manual_seed(seed))
        return out.to(device, non_blocking=True)

    def normal(self, name: str, like: Float[Tensor, " b *shape"]) -> Float[Tensor, " b *shape"]:
        """Standard normal numbers with the shape, dtype and device of ``like``, drawn on that device."""
        out = torch.empty_like(like, memory_format=torch.contiguous_format)
        for row, seed in zip(out, self.seeds(name), strict=True):
            row.normal_(generator=torch.Generator(device=like.device).manual_seed(seed))
        return out
