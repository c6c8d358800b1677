"""Parses a zip as ``torch.save`` writes it, and accounts for every byte.

A zip stores most facts twice: in a local header before every member, and in the directory at the end. Both must agree,
and the members must follow one another without gaps from the first byte to the directory. So a flipped bit in either
copy is detected. The checksums of the contents are compared separately (:func:`check_sums`), because that reads every
byte.

Format: PKWARE's APPNOTE.TXT, sections 4.3.7 to 4.3.16.
"""

import struct
import zlib
from dataclasses import dataclass

# signature; made by, needs, flags, method, time, date; crc, stored, length; name, extra, comment, disk, attributes; ...
DIRECTORY = struct.Struct("<4s6H3L5H2L")
LOCAL = struct.Struct("<4s5H3L2H")  # signature; needs, flags, method, time, date; crc, stored, length; name, extra
DESCRIPTOR = struct.Struct("<4s3L")  # signature; crc, stored, length: after a member whose local header has zeros
END = struct.Struct("<4s4H2LH")  # signature; disk, first disk, count here, count; size, offset; comment
END_64 = struct.Struct(
    "<4sQ2H2L4Q"
)  # signature; size; made by, needs; disk, first disk; count here, count; size, offset
LOCATOR_64 = struct.Struct("<4sLQL")  # signature; disk, offset of END_64, disks
EXTRA = struct.Struct("<2sH")  # id, size
STORED, DEFLATED = 0, 8
DESCRIBED = 8  # the flag of a member with a descriptor
PADDING = b"FB"  # torch's own extra field: as many Z as align the member
CRC_IN_DIRECTORY, CRC_IN_LOCAL, CRC_IN_DESCRIPTOR = 16, 14, 4  # bytes from the start of each record


class Unreadable(ValueError):
    """The file holds no tensor, or a damaged or unsupported one."""


@dataclass(frozen=True)
class ZipMember:
    """One member.

    Attributes:
        start, stop: byte range of its content in the file.
        length: size of its decompressed content.
        method: compression method; 0 if it is uncompressed.
        crc: CRC-32 of its decompressed content.
        crc_places: positions in the file that hold ``crc``.
    """

    start: int
    stop: int
    length: int
    method: int
    crc: int
    crc_places: tuple[int, int]


def zip_members(content: bytes | bytearray) -> dict[str, ZipMember] | None:
    """The members by name; None if the file does not end with a zip directory, or is larger than 4 GiB.

    Raises:
        Unreadable: parts of the zip contradict one another.
    """
    end = len(content) - END.size
    if end < 0 or content[end : end + 4] != b"PK\x05\x06":
        return None
    try:
        return _members(content, end)
    except struct.error:
        raise _damaged("it ends within a header") from None


def check_sums(content: bytes | bytearray) -> None:
    """Compares every member with its checksum; raises :class:`Unreadable`.

    Nothing is checked in a file without checksums: one that is not a zip, or a zip whose checksums are all 0
    (``torch.serialization.set_crc32_options(False)``).
    """
    members = zip_members(content) or {}
    if not any(member.crc for member in members.values()):
        return
    for name, member in members.items():
        found: bytes | memoryview = memoryview(content)[member.start : member.stop]
        if member.method == DEFLATED:
            try:
                found = zlib.decompressobj(-zlib.MAX_WBITS).decompress(found, member.length + 1)
            except zlib.error as error:
                raise Unreadable(f"{name} cannot be decompressed: {error}") from None
        if member.method in (STORED, DEFLATED) and zlib.crc32(found) != member.crc:
            raise Unreadable(f"the checksum of {name} is wrong")


def _members(content: bytes | bytearray, end: int) -> dict[str, ZipMember] | None:
    _, disk, first_disk, here, count, size, position, comment = END.unpack_from(content, end)
    if 0xFFFF in (here, count) or 0xFFFFFFFF in (size, position):
        return None  # the numbers are in END_64
    if disk or first_disk or here != count or comment:
        raise _damaged("its last record is inconsistent")
    members, spans, place = {}, [], position
    for _ in range(count):
        name, member, span, place = _entry(content, place)
        members[name] = member
        spans.append(span)
    at = 0
    for begin, stop in sorted(spans):
        if begin != at:
            raise _damaged(f"byte {at} belongs to no member" if begin > at else f"two members share byte {begin}")
        at = stop
    if at != position or place != position + size or len(members) < count:
        raise _damaged("its directory is in the wrong place")
    if place != end:
        _check_end_64(content[place:end], place, count, size, position)
    return members


def _entry(content: bytes | bytearray, place: int) -> tuple[str, ZipMember, tuple[int, int], int]:
    """(name, member, its bytes from its local header to its end, place of the next entry) of the directory."""
    signature, _, *shared, crc, stored, length, name_size, extra_size, comment, disk, _, _, header = (
        DIRECTORY.unpack_from(content, place)
    )
    if signature != b"PK\x01\x02" or disk:
        raise _damaged(f"no directory entry at byte {place}")
    name = _part(content, place + DIRECTORY.size, name_size)
    next_place = place + DIRECTORY.size + name_size + extra_size + comment
    signature, *local, local_crc, local_stored, local_length, local_name, local_extra = LOCAL.unpack_from(
        content, header
    )
    start = header + LOCAL.size + local_name + local_extra
    stop = end = start + stored
    if signature != b"PK\x03\x04" or local != shared or _part(content, header + LOCAL.size, local_name) != name:
        raise _damaged(f"the header at byte {header} is not the one of {name.decode('latin-1')}")
    _check_extra(_part(content, start - local_extra, local_extra))
    said, place_of_said = [local_crc, local_stored, local_length], header + CRC_IN_LOCAL
    if shared[1] & DESCRIBED:
        if any(said):
            raise _damaged(f"the header at byte {header} has values that belong after its member")
        signature, *said = DESCRIPTOR.unpack_from(content, stop)
        place_of_said, end = stop + CRC_IN_DESCRIPTOR, stop + DESCRIPTOR.size
    if said != [crc, stored, length] or (shared[2] == STORED and stored != length):
        raise _damaged(f"two sizes or checksums of {name.decode('latin-1')}")
    if shared[1] & DESCRIBED and signature != b"PK\x07\x08":
        raise _damaged(f"no descriptor after {name.decode('latin-1')}")
    places = (place + CRC_IN_DIRECTORY, place_of_said)
    return name.decode("latin-1"), ZipMember(start, stop, length, shared[2], crc, places), (header, end), next_place


def _part(content: bytes | bytearray, start: int, size: int) -> bytes:
    """``size`` bytes from ``start`` on, without copying the rest of the file, which may be large."""
    return bytes(content[start : start + size])


def _check_extra(extra: bytes) -> None:
    while extra:
        kind, size = EXTRA.unpack_from(extra)
        value, extra = extra[EXTRA.size :][:size], extra[EXTRA.size + size :]
        if len(value) < size or (kind == PADDING and value.strip(b"Z")):
            raise _damaged("an extra field is incomplete")


def _check_end_64(record: bytes | bytearray, place: int, count: int, size: int, position: int) -> None:
    """Checks the zip64 end records, which ``torch.save`` always writes; they must agree with the others."""
    if len(record) != END_64.size + LOCATOR_64.size:
        raise _damaged("its directory is in the wrong place")
    made_by, needs = END_64.unpack_from(record)[2:4]
    same = END_64.pack(
        b"PK\x06\x06", END_64.size - 12, made_by, needs, 0, 0, count, count, size, position
    ) + LOCATOR_64.pack(b"PK\x06\x07", 0, place, 1)
    if record != same:
        raise _damaged("its last records are inconsistent")


def _damaged(how: str) -> Unreadable:
    return Unreadable(f"a damaged zip: {how}")
