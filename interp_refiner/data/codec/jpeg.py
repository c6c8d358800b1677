"""Detects faults of JPEG files that decoders do not report."""

import re
from collections.abc import Iterator
from typing import NamedTuple

TABLES, SCAN, END = b"\xc4", b"\xda", b"\xd9"
NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # stuffed bytes and restart markers belong to a scan
HOLE = bytes(64)


class Scan(NamedTuple):
    """The compressed data of one scan.

    Attributes:
        start, stop: of its bytes in the file.
        coefficients: whether its blocks extend to the last coefficient, and in one of its tables the code of all zeros
            stands for a coefficient.
    """

    start: int
    stop: int
    coefficients: bool


def jpeg_fault(jpeg: bytes) -> str:
    """Why a JPEG file is incomplete, as far as its bytes show; empty if nothing is wrong.

    A failing disk or an interrupted download leaves bytes of zeros. The code of all zeros is the first one of a Huffman
    table. If it stands for a coefficient, 64 bytes of zeros decode to blocks whose coefficients are all equal and
    negative, which no picture has. If it stands for the end of a block, the zeros may be an area of one colour; in
    scans that refine others, they may be a repeated pattern. In these two cases no fault is reported.
    """
    at = 0
    for scan in _scans(jpeg):
        at = scan.stop
        hole = jpeg.find(HOLE, scan.start, scan.stop)
        rest = jpeg[hole : scan.stop].lstrip(b"\0")
        if hole >= 0 and rest and scan.coefficients:  # zeros before the next marker are padding
            return f"damaged: {scan.stop - len(rest) - hole} zeros in its compressed data"
    return "" if jpeg.find(b"\xff" + END, at) >= 0 else "truncated: the end marker is missing"


def _scans(jpeg: bytes) -> Iterator[Scan]:
    """The scans up to the end marker; a thumbnail in a segment of the header has its own, which do not count."""
    zeros: dict[int, int] = {}  # what the code of all zeros stands for, by table
    at = 2
    while (found := NEXT_MARKER.search(jpeg, at)) and (marker := found[0][1:]) != END:
        at = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2])
        content = jpeg[found.end() + 2 : at]
        if marker == TABLES:
            while len(content) > 17:
                zeros[content[0]] = content[17]
                content = content[17 + sum(content[1:17]) :]
        elif marker == SCAN and len(content) > 5:
            after = NEXT_MARKER.search(jpeg, at)
            selectors, (_, last, bits) = content[2:-3:2], content[-3:]
            symbols = [zeros.get(0x10 | selector & 0xF, 0) for selector in selectors]
            coefficients = last == 63 and bits < 0x10 and any(symbol & 0xF for symbol in symbols)
            yield Scan(at, after.start() if after else len(jpeg), coefficients)
