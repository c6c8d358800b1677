"""Reading the members of a sample: straight into the memory they are wanted in, by one request."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from interp_refiner.data.shards.storage import Buffer, Storage
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
CHUNK = 1 << 16  # numbers: small enough for the second pass over a chunk to find it in the processor's own cache
GAP = 1 << 16  # bytes between two members that are read along rather than asked for apart


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
        self._frames: dict[tuple[int, int], _Frame | None] = {}  # by the sizes of file and tensor; None: they differ

    def read(self, span: Span) -> Tensor:
        """The tensor in one member; raises EOFError or :class:`Unreadable`."""
        content = self.storage.read(*span)
        stored = plain_tensor(content)
        return stored.view(content) if stored is not None else load_weights(content)

    def read_into(self, span: Span, out: Tensor) -> None:
        """Fills ``out``, contiguous and on the host, whose shape and dtype the stored tensor must have.

        Raises EOFError where the shard ends before, and :class:`Unreadable`.
        """
        read_members(self.storage, span[0], [self.member(span, out)])

    def member(self, span: Span, out: Tensor) -> "Member":
        """What :meth:`read_into` does, to be done together with other members."""
        _, offset, size = span
        frame = self._frames.get((size, out.nbytes))
        if frame is None:
            content = bytearray(size)
            return Member(offset, [content], lambda: self._parse_into(content, out))
        head = bytearray(len(frame.head))
        tail = bytearray(size - len(head) - out.nbytes)

        def check() -> None:
            if head != frame.head or not tail.endswith(frame.end):
                self._frames[size, out.nbytes] = None
                self._parse_into(self.storage.read(*span), out)

        return Member(offset, [head, memoryview(as_bytes(out).data), tail], check)

    def _parse_into(self, content: bytearray, out: Tensor) -> None:
        stored = plain_tensor(content)
        tensor = stored.view(content) if stored is not None else load_weights(content)
        if tensor.shape != out.shape:
            raise Unreadable(f"shape {list(tensor.shape)}, expected {list(out.shape)}")
        if tensor.dtype != out.dtype:
            raise Unreadable(f"dtype {tensor.dtype}, expected {out.dtype}")
        out.copy_(tensor)
        if stored is not None and stored.stride == out.stride():
            end = stored.start + out.nbytes
            frame = _Frame(bytes(content[: stored.start]), bytes(content[max(end, len(content) - END) :]))
            self._frames.setdefault((len(content), out.nbytes), frame)


class Member(NamedTuple):
    """A member to be read: where it lies, what its bytes fill one after the other, what is done once they are there."""

    offset: int
    buffers: list[Buffer]
    done: Callable[[], None]

    @property
    def end(self) -> int:
        return self.offset + sum(len(buffer) for buffer in self.buffers)


def read_members(storage: Storage, shard: str, members: Sequence[Member]) -> None:
    """Reads members of one shard, those that lie beside each other by one request; raises EOFError."""
    for run in _runs(sorted(members, key=lambda member: member.offset)):
        buffers = list(run[0].buffers)
        for before, after in pairwise(run):
            buffers += [bytearray(after.offset - before.end), *after.buffers]
        storage.read_into(shard, run[0].offset, buffers)
    for member in members:
        member.done()


def _runs(members: Sequence[Member]) -> Iterator[list[Member]]:
    """Members by offset, parted where more than :data:`GAP` lies between two of them."""
    run: list[Member] = []
    for member in members:
        if run and not 0 <= member.offset - run[-1].end <= GAP:
            yield run
            run = []
        run.append(member)
    yield run
