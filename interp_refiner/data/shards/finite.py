"""Fast checks for NaN and infinite numbers, by comparing bits as integers.

A float is a sign bit and a magnitude whose bits, read as an integer, grow with the number. The bits of infinity are
above those of all finite numbers, and those of NaN above infinity.
"""

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

# dtype: the integer dtype of its bits, and the bits of infinity (all ones in the exponent)
BITS = {
    torch.bfloat16: (np.int16, 0x7F80),
    torch.float16: (np.int16, 0x7C00),
    torch.float32: (np.int32, 0x7F800000),
}
CHUNK = 1 << 16  # numbers; small enough that the second pass over a chunk finds it in the processor's cache


def all_finite(tensor: Tensor) -> bool:
    """Whether a contiguous tensor on the host, of a dtype in :data:`BITS`, holds neither infinities nor NaN.

    The maximum of the bits as signed integers finds positive infinities and NaN, the maximum as unsigned integers the
    negative ones. This is 2 to 3 times as fast as ``aminmax`` and 60 times as fast as ``isfinite``.
    """
    integer, infinity = BITS[tensor.dtype]
    signed = as_bytes(tensor).view(integer)
    unsigned = signed.view(f"u{signed.itemsize}")
    sign = 1 << (8 * signed.itemsize - 1)
    return all(
        signed[start : start + CHUNK].max() < infinity and unsigned[start : start + CHUNK].max() < sign + infinity
        for start in range(0, tensor.numel(), CHUNK)
    )


def finite_rows(batch: Shaped[Tensor, " b *shape"]) -> Bool[Tensor, " b"]:
    """Which rows of a contiguous batch hold neither infinities nor NaN; computed on its device, without a sync."""
    if batch.device.type == "cpu":
        return torch.tensor([all_finite(row) for row in batch], dtype=torch.bool)
    integer, infinity = BITS[batch.dtype]
    bits = batch.flatten(1).view(getattr(torch, np.dtype(integer).name))
    return (bits & infinity).amax(1) < infinity


def as_bytes(tensor: Tensor) -> np.ndarray:
    """The memory of a contiguous tensor on the host."""
    return tensor.detach().view(-1).view(torch.uint8).numpy()
