"""Whether numbers are finite, by their bits.

The bits of a float are a sign and a magnitude that grows with them, infinity and then NaN above all finite numbers.
"""

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

# dtype: its bits as an integer, and those of infinity, which are all ones in the exponent
BITS = {
    torch.bfloat16: (np.int16, 0x7F80),
    torch.float16: (np.int16, 0x7C00),
    torch.float32: (np.int32, 0x7F800000),
}
CHUNK = 1 << 16  # numbers: small enough for the second pass over a chunk to find it in the processor's own cache


def all_finite(tensor: Tensor) -> bool:
    """Whether a contiguous tensor of :data:`BITS` on the host holds neither infinities nor NaN.

    The largest as signed integers tells of the positive ones, the largest as unsigned integers of the negative ones: 2
    to 3 times as fast as ``aminmax`` and 60 times as fast as ``isfinite``.
    """
    integer, infinity = BITS[tensor.dtype]
    signed = as_bytes(tensor).view(integer)
    unsigned = signed.view(f"u{signed.itemsize}")
    sign = 1 << (8 * signed.itemsize - 1)
    return all(
        signed[start : start + CHUNK].max() < infinity and unsigned[start : start + CHUNK].max() < sign + infinity
        for start in range(0, tensor.numel(), CHUNK)
    )


def finite_rows(batch: Shaped[Tensor, "b *shape"]) -> Bool[Tensor, " b"]:
    """Which rows of a contiguous batch hold neither infinities nor NaN, on its device and without waiting for it."""
    if batch.device.type == "cpu":
        return torch.tensor([all_finite(row) for row in batch], dtype=torch.bool)
    integer, infinity = BITS[batch.dtype]
    bits = batch.flatten(1).view(getattr(torch, np.dtype(integer).name))
    return (bits & infinity).amax(1) < infinity


def as_bytes(tensor: Tensor) -> np.ndarray:
    """The memory of a contiguous tensor on the host."""
    return tensor.detach().view(-1).view(torch.uint8).numpy()
