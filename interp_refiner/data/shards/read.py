"""Reads the members of a sample directly into their target memory, by one request."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from interp_refiner.data.shards.finite import as_bytes
from interp_refiner.data.shards.storage import Buffer, Span, Storage
from interp_refiner.data.shards.tar import BLOCK
from interp_refiner.data.shards.tensor_file import plain_tensor, read_tensor
from interp_refiner.data.shards.zip_file import Unreadable, check_sums, zip_members

GAP = 1 << 16  # bytes; smaller gaps between members are read, too, which saves a request
CRC_SIZE = 4
VARIED = "/.data/serialization_id"  # the member that differs from file to file, as the numbers do


class Member(NamedTuple):
    """A member to read: its name, its offset, the buffers that its bytes fill, and a check to run afterwards."""

    name: str
    offset: int
    buffers: list[Buffer]
    done: Callable[[], None]

    @property
    def end(self) -> int:
        return self.offset + sum(map(len, self.buffers))


class MemberReader:
    """Reads members of shards; safe to use from many threads.

    Tensor files of equal length usually have equal bytes around their numbers (:class:`_Frame`). So, after one such
    file was parsed, the next is read in three parts: head, numbers and tail, the numbers directly into their target
    memory. If head and tail equal those of the parsed file, the numbers are in the right place, and the file is as
    valid as the parsed one. If not, the file is parsed itself. So the result depends only on a file's own bytes, not on
    earlier files.

    Args:
        storage: the folder of the shards.
        checksums: compare every member with the checksum in its tar header; without one, a tensor file with the
            checksums in its zip. The padding between members must then be zeros, too.
    """

    def __init__(self, storage: Storage, checksums: bool = False):
        self.storage, self.checksums = storage, checksums
        self._frames: dict[tuple, _Frame | None] = {}  # by (file size, shape, dtype); None: frames differ

    def read(self, span: Span) -> Tensor:
        """The tensor in one member; raises EOFError or :class:`Unreadable`."""
        content = bytearray(span.size)
        tensors = []
        member = self._member("", span.offset, [content], lambda: tensors.append(self._parse(content, span.crc)))
        read_members(self.storage, span.shard, [member])
        return tensors[0]

    def read_into(self, span: Span, out: Tensor) -> None:
        """Reads a tensor into ``out``: contiguous, on the host, of the stored tensor's shape and dtype.

        Raises EOFError if the shard ends too early, and :class:`Unreadable`.
        """
        read_members(self.storage, span.shard, [self.tensor("", span, out)])

    def tensor(self, name: str, span: Span, out: Tensor) -> Member:
        """:meth:`read_into` as a :class:`Member`, to be read together with others; errors name ``name``."""
        _, offset, size, crc = span
        frame = self._frames.get((size, out.shape, out.dtype))
        if frame is None:
            content = bytearray(size)
            return self._member(name, offset, [content], lambda: self._parse_into(content, out, crc))
        head, tail = bytearray(len(frame.head)), bytearray(size - len(frame.head) - out.nbytes)
        numbers = memoryview(as_bytes(out).data)
        parts: list[Buffer] = [head, numbers, tail]

        def check() -> None:
            if not frame.surrounds(head, tail):
                self._parse_into(bytearray().join(parts), out, crc)
            elif self.checksums and crc is not None:
                check_crc(parts, crc)
            elif self.checksums:
                frame.check_sums(numbers, tail)

        return self._member(name, offset, parts, check)

    def text(self, name: str, span: Span, content: bytearray) -> Member:
        """A :class:`Member` that reads its bytes into ``content``."""

        def check() -> None:
            if self.checksums and span.crc is not None:
                check_crc([content], span.crc)

        return self._member(name, span.offset, [content], check)

    def _member(self, name: str, offset: int, buffers: list[Buffer], done: Callable[[], None]) -> Member:
        """A member; with checksums, its padding to a whole block is read and checked, too."""
        padding = -sum(map(len, buffers)) % BLOCK if self.checksums else 0
        if padding == 0:
            return Member(name, offset, buffers, done)
        zeros = bytearray(padding)

        def check() -> None:
            done()
            if any(zeros):
                raise Unreadable("its padding is not all zeros")

        return Member(name, offset, [*buffers, zeros], check)

    def _parse(self, content: bytearray, crc: int | None) -> Tensor:
        tensor = read_tensor(content)
        if self.checksums and crc is not None:
            check_crc([content], crc)
        elif self.checksums:
            check_sums(content)
        self._learn(content, tensor)
        return tensor

    def _parse_into(self, content: bytearray, out: Tensor, crc: int | None) -> None:
        tensor = self._parse(content, crc)
        if tensor.shape != out.shape:
            raise Unreadable(f"shape {list(tensor.shape)}, expected {list(out.shape)}")
        if tensor.dtype != out.dtype:
            raise Unreadable(f"dtype {tensor.dtype}, expected {out.dtype}")
        out.copy_(tensor)

    def _learn(self, content: bytearray, tensor: Tensor) -> None:
        """Keeps the frame of a valid file for other files of the same length, shape and dtype."""
        kind = len(content), tensor.shape, tensor.dtype
        if kind in self._frames and self._frames[kind] is None:
            return
        frame = _frame(content, tensor)
        if self._frames.setdefault(kind, frame) != frame:
            self._frames[kind] = None  # two valid files differ: always parse files of this kind


def check_crc(parts: Sequence[Buffer], crc: int) -> None:
    """Compares a member, given in parts, with its checksum; raises :class:`Unreadable`."""
    found = 0
    for part in parts:
        found = zlib.crc32(part, found)
    if found != crc:
        raise Unreadable("its checksum is wrong")


@dataclass(frozen=True)
class _Frame:
    """The bytes around the numbers in a parsed ``.pt`` file.

    Another file has the same frame if it differs only in the numbers, in the identifier that torch derives from them,
    and in the checksums of both. Each checksum occurs twice, and the two must agree. Then the other file passes every
    check that the parsed file has passed.

    Attributes:
        head: all bytes before the numbers.
        tail: all bytes after them, with zeros in the holes.
        holes: (start, stop) of the tail's bytes that may differ.
        crcs: pairs of positions in the tail; each pair holds one checksum twice (in the directory, after the member).
        identifier: (start, stop) in the tail; None if the file has none.
    """

    head: bytes
    tail: bytes
    holes: tuple[tuple[int, int], ...]
    crcs: tuple[tuple[int, int], ...]
    identifier: tuple[int, int] | None

    def surrounds(self, head: Buffer, tail: Buffer) -> bool:
        if head != self.head or any(tail[a : a + CRC_SIZE] != tail[b : b + CRC_SIZE] for a, b in self.crcs):
            return False
        return _blank(tail, self.holes) == self.tail

    def check_sums(self, numbers: Buffer, tail: Buffer) -> None:
        """Compares the numbers and the identifier with their checksums; raises :class:`Unreadable`."""
        said = [int.from_bytes(tail[place : place + CRC_SIZE], "little") for place, _ in self.crcs]
        contents = [numbers, *([tail[slice(*self.identifier)]] if self.identifier else [])]
        if any(said) and said != [zlib.crc32(content) for content in contents]:  # all 0: saved without checksums
            raise Unreadable("the checksum of its numbers is wrong")


def _frame(content: bytearray, tensor: Tensor) -> _Frame | None:
    """The frame of a parsed file; None if its numbers are not contiguous in the file."""
    stored, members = plain_tensor(content), zip_members(content)
    if stored is None or members is None or not tensor.is_contiguous():
        return None
    stop = stored.start + tensor.nbytes
    varied = [member for member in members.values() if (member.start, member.stop) == (stored.start, stop)]
    identifier = next((member for name, member in members.items() if name.endswith(VARIED)), None)
    varied += [identifier] if identifier is not None else []
    crcs = tuple((member.crc_places[0] - stop, member.crc_places[1] - stop) for member in varied)
    named = (identifier.start - stop, identifier.stop - stop) if identifier is not None else None
    holes = (*((place, place + CRC_SIZE) for pair in crcs for place in pair), *([named] if named else []))
    if len(crcs) != 1 + (named is not None) or any(place < 0 for hole in holes for place in hole):
        return None
    return _Frame(bytes(content[: stored.start]), _blank(content[stop:], holes), holes, crcs, named)


def _blank(tail: Buffer, holes: Sequence[tuple[int, int]]) -> bytes:
    blank = bytearray(tail)
    for start, stop in holes:
        blank[start:stop] = bytes(stop - start)
    return bytes(blank)


def read_members(storage: Storage, shard: str, members: Sequence[Member]) -> None:
    """Reads members of one shard; neighbouring members are read by one request.

    Raises EOFError, and :class:`Unreadable` with the name of the member.
    """
    for run in _runs(sorted(members, key=lambda member: member.offset)):
        buffers = list(run[0].buffers)
        for before, after in pairwise(run):
            buffers += [bytearray(after.offset - before.end), *after.buffers]
        storage.read_into(shard, run[0].offset, buffers)
    for member in members:
        try:
            member.done()
        except Unreadable as error:
            raise Unreadable(f"{member.name}: {error}" if member.name else str(error)) from error


def _runs(members: Sequence[Member]) -> Iterator[list[Member]]:
    """Groups members, sorted by offset; a gap of more than :data:`GAP` bytes begins a new group."""
    run: list[Member] = []
    for member in members:
        if run and not 0 <= member.offset - run[-1].end <= GAP:
            yield run
            run = []
        run.append(member)
    yield run
