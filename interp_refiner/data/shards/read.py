"""Reading the tensors of a shard: straight into the memory they are wanted in, by one system call."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from interp_refiner.data.shards.storage import Storage
from interp_refiner.data.shards.tensor_file import DIRECTORY_END, Unreadable, load_weights, plain_tensor

Span = tuple[str, int, int]
"""(shard, offset, size) of a member."""

END = DIRECTORY_END.size


# dtype: its bits as an integer, and those of infinity
BITS = {
    torch.bfloat16: (np.int16, 0x7F80),
    torch.float16: (np.int16, 0x7C00),
    torch.float32: (np.int32, 0x7F800000),
}
CHUNK = 1 << 18  # numbers: both passes over a chunk stay in the processor's cache


def all_finite(tensor: Tensor) -> bool:
    """Whether a contiguous tensor of :data:`BITS` on the host holds neither infinities nor NaN.

    The bits of a float are a sign and a magnitude that grows with them, infinity and then NaN above all finite numbers.
    So the largest as signed integers tells of the positive ones, the largest as unsigned integers of the negative ones:
    2 to 3 times as fast as ``aminmax`` and 60 times as fast as ``isfinite``, which count beside reading.
    """
    integer, infinity = BITS[tensor.dtype]
    signed = as_bytes(tensor).view(integer)
    unsigned = signed.view(f"u{signed.itemsize}")
    sign = 1 << (8 * signed.itemsize - 1)
    return all(
        signed[start : start + CHUNK].max() < infinity and unsigned[start : start + CHUNK].max() < sign + infinity
        for start in range(0, tensor.numel(), CHUNK)
    )


def as_bytes(tensor: Tensor) -> np.ndarray:
    """The memory of a contiguous tensor on the host."""
    return tensor.detach().view(-1).view(torch.uint8).numpy()


class _Frame(NamedTuple):
    """What surrounds the numbers in a ``.pt`` file, as a file that has been parsed had it."""

    head: bytes
    end: bytes


class TensorReader:
    """Reads tensors out of shards; safe to use from many threads.

    A file as long as an earlier one most likely has the same head, which ends where the numbers begin. So head, numbers
    and tail are read at once, the numbers into the memory they are wanted in. If the head turns out to be the one that
    was parsed, they are where they belong; if not, this file is read as a whole, and all of its length from then on.
    """

    def __init__(self, storage: Storage):
        self.storage = storage
        self._frames: dict[tuple[int, int], _Frame | None] = {}  # by the sizes of file and tensor

    def read(self, span: Span) -> Tensor:
        """The tensor in one member; raises EOFError or :class:`Unreadable`."""
        content = self.storage.read(*span)
        stored = plain_tensor(content)
        return stored.view(content) if stored is not None else load_weights(content)

    def read_into(self, span: Span, out: Tensor) -> None:
        """Fills ``out``, contiguous and on the host, whose shape and dtype the stored tensor must have.

        Raises EOFError where the shard ends before, and :class:`Unreadable`.
        """
        frame_of = span[2], out.nbytes
        frame = self._frames.get(frame_of)
        if frame is not None and self._read_in_place(span, out, frame):
            return
        content = self.storage.read(*span)
        stored = plain_tensor(content)
        tensor = stored.view(content) if stored is not None else load_weights(content)
        if tensor.shape != out.shape:
            raise Unreadable(f"shape {list(tensor.shape)}, expected {list(out.shape)}")
        if tensor.dtype != out.dtype:
            raise Unreadable(f"dtype {tensor.dtype}, expected {out.dtype}")
        out.copy_(tensor)
        if frame is not None:
            self._frames[frame_of] = None
        elif stored is not None and stored.stride == out.stride():
            end = stored.start + out.nbytes
            frame = _Frame(bytes(content[: stored.start]), bytes(content[max(end, len(content) - END) :]))
            self._frames.setdefault(frame_of, frame)

    def _read_in_place(self, span: Span, out: Tensor, frame: _Frame) -> bool:
        shard, offset, size = span
        head = bytearray(len(frame.head))
        tail = bytearray(size - len(head) - out.nbytes)
        self.storage.read_into(shard, offset, [head, memoryview(as_bytes(out).data), tail])
        return head == frame.head and tail.endswith(frame.end)
