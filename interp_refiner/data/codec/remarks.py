"""Remarks on what the conversion of a frame to upright sRGB changes or leaves out."""

from math import atan2, degrees

import av
from av.sidedata.sidedata import Type as SideData

from interp_refiner.data.codec import colour
from interp_refiner.data.codec.frame import (
    UPRIGHT,
    UnreadableVideo,
    colour_of,
    display_matrix,
    has_alpha,
    is_rgb,
    matrix_of,
)


def remarks_on(frame: av.VideoFrame) -> list[str]:
    """What :func:`rgb_of` and :func:`upright` convert or leave out, one phrase each.

    Raises:
        UnreadableVideo: unsupported colours.
    """
    found = []
    if SideData.DOVI_METADATA in frame.side_data and frame.color_trc in colour.UNSPECIFIED:
        raise UnreadableVideo("Dolby Vision without a compatible base layer is not supported")
    primaries, transfer = colour_of(frame)
    if transfer in (colour.PQ, colour.HLG):
        what = f"HDR ({colour.TRANSFERS[transfer]}, {colour.PRIMARIES[primaries][0]})"
        found.append(f"{what} is tone-mapped to sRGB, {colour.WHITE:g} nits as white")
    elif primaries != 1 or transfer not in colour.SDR:
        curve = "" if transfer in colour.SDR else f", {colour.TRANSFERS[transfer]}"
        found.append(f"{colour.PRIMARIES[primaries][0]}{curve} is converted to sRGB")
    if not is_rgb(frame) and frame.colorspace in colour.UNSPECIFIED:
        found.append(f"colours without a matrix are treated as BT.{709 if matrix_of(frame) == 1 else 601}")
    if (bits := max(part.bits for part in frame.format.components)) > 8:
        found.append(f"{bits} bits are rounded to 8")
    if has_alpha(frame):
        found.append("transparent pixels become black")
    if frame.interlaced_frame:
        found.append("interlaced; both fields are combined into one frame")
    if SideData.ICC_PROFILE in frame.side_data:
        found.append("its ICC profile is ignored")
    if (matrix := display_matrix(frame)) != UPRIGHT:
        a, b, c, d = matrix
        angle, mirrored = degrees(atan2(-b, a)) % 360, a * d - b * c < 0
        nearest = "" if round(angle) % 90 == 0 else ", to the nearest multiple of 90"
        found.append(f"turned upright by {angle:.0f} degrees{' and mirrored' if mirrored else ''}{nearest}")
    return found
