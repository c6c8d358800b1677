"""Reads the headers of a tar to find the members of every sample.

An archive ends with two blocks of zeros; most writers then pad to a record of 20 blocks (POSIX pax, section "ustar
Interchange Format"). Anything else at the end is damage. Zeros in the middle look like the end, too: a reader that
stops there loses everything after them without an error.
"""

import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from interp_refiner.data.shards.bad_sample import Unavailable
from interp_refiner.data.shards.storage import Storage

KINDS = ("latent", "embed", "prompt", "anchor", "anchor_idx", "context")
TENSORS = ("latent", "embed", "anchor", "anchor_idx", "context")
SUFFIXES = {f".{kind}.{end}": kind for kind in TENSORS for end in ("pt", "pth")} | {".prompt.txt": "prompt"}
BLOCK = 512  # bytes of a tar header; contents are padded to whole blocks
RECORD = 20 * BLOCK
END = bytes(BLOCK)
ABSENT = (-1, -1, -1)  # (offset, size, crc) of an absent member
CRC = re.compile(r"crc32=([0-9a-f]{8})(?:,before=([0-9a-f]{8}))?")


def crc_owner(content: bytes, before: bytes = b"") -> str:
    """The owner's name to write in a member's header: the CRC-32 of its content, and that of ``before``.

    The header has room for it, is protected by its own checksum, and is read anyway when a shard is indexed. ``before``
    holds the blocks of a long or non-ASCII name (the pax extension); tar's own checksums do not cover them.
    """
    return f"crc32={zlib.crc32(content):08x}" + (f",before={zlib.crc32(before):08x}" if before else "")


def header_with_crc(name: str, content: bytes) -> tarfile.TarInfo:
    """The header of a member, with its :func:`crc_owner`."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.uname = crc_owner(content, info.tobuf(tarfile.PAX_FORMAT, "utf-8")[:-BLOCK])
    return info


def split_member(name: str) -> tuple[str, str] | None:
    """(key, kind) of a member's name; None for other files. Known suffixes are matched, because keys may contain dots.

    ``a.latent.pt``, ``a.latent.pth``, ``a/a.latent.pt`` and ``a/latent.pt`` are all the latent of ``a``;
    any other folder is part of the key.
    """
    folder, _, base = name.removeprefix("./").rpartition("/")
    suffix = next((s for s in SUFFIXES if f".{base}".endswith(s)), None)
    if suffix is None or base.startswith("._"):
        return None
    stem = base[: -len(suffix)]
    parent, _, last = folder.rpartition("/")
    path = [parent, stem] if stem == last else [folder, stem]
    key = "/".join(part for part in path if part)
    return (key, SUFFIXES[suffix]) if key else None


class TarIndex(NamedTuple):
    """One shard: its samples' keys, their spans ``[n, kind, (offset, size, crc)]`` (-1: absent), and any damage."""

    keys: list[str]
    spans: np.ndarray
    damage: str


class TarMember(NamedTuple):
    """A regular file in a tar: its content begins at ``offset``, its checksum is ``crc`` (-1: none in the header)."""

    name: str
    offset: int
    size: int
    crc: int


def index_tar(storage: Storage, shard: str, size: int) -> TarIndex:
    """Reads the headers of one tar of ``size`` bytes (-1: no file); members after damage are not found.

    Raises:
        Unavailable: the file system does not give the file; the file itself may be good.
    """
    keys: list[str] = []
    spans: list[list[tuple[int, int, int]]] = []
    rows: dict[str, int] = {}
    damage = last = ""
    try:
        for name, *span in tar_members(storage, shard, size):
            last = name
            if (member := split_member(name)) is None:
                continue
            key, kind = member[0], KINDS.index(member[1])
            if key not in rows or spans[rows[key]][kind] != ABSENT:  # a second member of this kind: a duplicate key
                rows[key] = len(keys)
                keys.append(key)
                spans.append([ABSENT] * len(KINDS))
            spans[rows[key]][kind] = (span[0], span[1], span[2])
    except tarfile.TarError as error:
        damage = f"{error}, behind {last}" if last else str(error)
    except OSError as error:
        raise Unavailable(shard, "", error.strerror or str(error)) from error
    return TarIndex(keys, np.array(spans, np.int64).reshape(-1, len(KINDS), 3), damage)


def tar_members(storage: Storage, shard: str, size: int) -> Iterator[TarMember]:
    """Yields every regular file in a tar; raises TarError if the tar is damaged, or ends too early or too late."""
    if size < 0:
        raise tarfile.ReadError("not a file, but a folder or a broken link")
    position, window = 0, _Window(storage, shard, size)
    while True:
        try:
            block = window.block(position)
            if block == END:
                return _check_end(storage, shard, size, position)
            info = _plain(block, position) or _extended(storage, shard, size, position)
        except EOFError:
            raise tarfile.ReadError(f"truncated: no end-of-archive mark up to byte {size}") from None
        except tarfile.TarError as error:
            raise tarfile.ReadError(f"damaged header at byte {position}: {error}") from None
        position = info.offset_data + -(-info.size // BLOCK) * BLOCK
        if info.offset_data + info.size > size:
            raise tarfile.ReadError(f"truncated: {info.name} ends at byte {position}, the file at {size}")
        if info.isreg():
            crc = CRC.fullmatch(info.uname)
            yield TarMember(info.name, info.offset_data, info.size, int(crc[1], 16) if crc else -1)


def _check_end(storage: Storage, shard: str, size: int, position: int) -> None:
    """Checks that only the zeros of an end-of-archive mark follow ``position``."""
    zeros = size - position
    if zeros >= 2 * BLOCK + RECORD:
        raise tarfile.ReadError(f"damaged: the archive ends at byte {position}, {zeros} bytes before its file does")
    if any(storage.read(shard, position, zeros)):
        raise tarfile.ReadError(f"damaged: the archive ends at byte {position}, but more bytes follow")
    if zeros != 2 * BLOCK and (zeros < 2 * BLOCK or size % RECORD):
        raise tarfile.ReadError(f"truncated: {zeros} bytes of zeros at its end, neither two blocks nor a whole record")


class _Window:
    """Reads blocks of a shard, ``storage.granule`` bytes at a time; one read often contains several headers."""

    def __init__(self, storage: Storage, shard: str, size: int):
        self.storage, self.shard, self.size = storage, shard, size
        self.start, self.content = 0, bytearray()

    def block(self, position: int) -> bytes:
        if not 0 <= position - self.start <= len(self.content) - BLOCK:
            count = max(BLOCK, min(self.storage.granule, self.size - position))
            self.start, self.content = position, self.storage.read(self.shard, position, count)
        return bytes(self.content[position - self.start :][:BLOCK])


def _plain(block: bytes, position: int) -> tarfile.TarInfo | None:
    """Parses the header of a regular file with a short name, the usual case. None: use tarfile, which is slow."""
    try:
        if _checksum(block) != int(block[148:156].strip(b"\0 "), 8):
            return None
        name = block[:100].rstrip(b"\0").decode()
        size = int(block[124:136].strip(b"\0 "), 8)
    except ValueError:
        return None
    owner = block[265:297].rstrip(b"\0").decode("latin-1")
    if owner.startswith("crc32=") and block[148:156] != b"%06o\0 " % _checksum(block):
        raise tarfile.ReadError("its checksum field has an unusual format")  # probably a flipped bit
    if block[156:157] not in (tarfile.REGTYPE, tarfile.AREGTYPE) or block[345] or name.endswith("/"):
        return None
    info = tarfile.TarInfo(name)
    info.size, info.offset_data, info.uname = size, position + BLOCK, owner
    return info


def _checksum(block: bytes) -> int:
    """The checksum of a header: the sum of its bytes, with the checksum field itself read as blanks."""
    return sum(block) - sum(block[148:156]) + 8 * ord(" ")


def _extended(storage: Storage, shard: str, size: int, position: int) -> tarfile.TarInfo:
    """The member at ``position`` whose header follows extended headers; these are compared with their checksum."""
    info = _by_tarfile(storage, shard, size, position)
    crc = CRC.fullmatch(info.uname)
    before = storage.read(shard, position, info.offset_data - BLOCK - position)
    if crc and crc[2] and int(crc[2], 16) != zlib.crc32(before):
        raise tarfile.ReadError("the checksum of its long name is wrong")
    return info


def _by_tarfile(storage: Storage, shard: str, size: int, position: int) -> tarfile.TarInfo:
    """The member at ``position``, parsed by tarfile, with any extended headers."""
    file = io.BufferedReader(_ShardFile(storage, shard, size), 4 * BLOCK)
    file.seek(position)
    with tarfile.open(fileobj=file, mode="r:", errors="backslashreplace") as tar:
        info = tar.next()
    if info is None:
        raise tarfile.ReadError("an extended header without a file")
    return info


class _ShardFile(io.RawIOBase):
    """A shard as a seekable file."""

    def __init__(self, storage: Storage, shard: str, size: int):
        self.storage, self.shard, self.size, self.position = storage, shard, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        return self.position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = max(0, min(len(buffer), self.size - self.position))
        self.storage.read_into(self.shard, self.position, [buffer[:count]])
        self.position += count
        return count
