"""Converts a decoded frame to RGB: its colours and its orientation."""

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorRange, Interpolation
from jaxtyping import UInt8

from interp_refiner.data.codec import colour

MATRICES = (1, 4, 5, 6, 7, 9)  # supported matrices, by their numbers in H.273
SD = (1279, 576)  # largest picture that is assumed to be BT.601 if the file does not say
UPRIGHT = (1.0, 0.0, 0.0, 1.0)


class UnreadableVideo(ValueError):
    """A file is not a video, is damaged, or has unsupported colours; the message says why."""


def rgb_of(
    frame: av.VideoFrame,
    width: int | None = None,
    height: int | None = None,
    how: Interpolation | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """sRGB of a frame in its stored orientation, composited over black."""
    how = (how or Interpolation.BILINEAR) | Interpolation.FULL_CHR_H_INT  # without it, white becomes 253
    size = {"width": width, "height": height, "interpolation": how, "src_colorspace": matrix_of(frame)}
    primaries, transfer = colour_of(frame)
    if primaries == 1 and transfer in colour.SDR:
        if not has_alpha(frame):
            return frame.reformat(**size, format="rgb24").to_ndarray()
        rgba = frame.reformat(**size, format="rgba").to_ndarray().astype(np.uint16)
        return ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
    rgba = frame.reformat(**size, format="rgba64le").to_ndarray()
    exact = (rgba[..., :3] * (65535 / white_of(frame))).round().clip(0, 65535).astype(np.uint16)
    rgb = colour.to_srgb(exact, primaries, transfer)
    return (rgb * (rgba[..., 3:] / 65535)).round().astype(np.uint8) if has_alpha(frame) else rgb


def colour_of(frame: av.VideoFrame) -> tuple[int, int]:
    """Primaries and transfer function of a frame; BT.709 if the frame does not say.

    Raises:
        UnreadableVideo: one of them, or the matrix to RGB, is not supported.
    """
    primaries, transfer, matrix = int(frame.color_primaries), int(frame.color_trc), int(frame.colorspace)
    primaries = 1 if primaries in colour.UNSPECIFIED else primaries
    for name, value, known in (
        ("primaries", primaries, colour.PRIMARIES),
        ("transfer function", transfer, (*colour.SDR, colour.LINEAR, colour.PQ, colour.HLG)),
        ("matrix", matrix, (*MATRICES, *colour.UNSPECIFIED) if not is_rgb(frame) else (matrix,)),
    ):
        if value not in known:
            said = f" ({colour.TRANSFERS[value]})" if name.startswith("transfer") and value in colour.TRANSFERS else ""
            raise UnreadableVideo(f"colour {name} {value}{said} of H.273 is not supported: convert it to BT.709 first")
    return primaries, transfer


def matrix_of(frame: av.VideoFrame) -> int:
    """The matrix from YCbCr to RGB, as a number of H.273. Small untagged pictures count as BT.601, as in players."""
    if frame.colorspace not in colour.UNSPECIFIED:
        return int(frame.colorspace)
    return 5 if frame.width <= SD[0] and frame.height <= SD[1] else 1


def is_rgb(frame: av.VideoFrame) -> bool:
    """Whether the frame is stored as RGB or grey, so that no matrix is needed."""
    return frame.format.is_rgb or frame.format.name in ("pal8", "gray")


def white_of(frame: av.VideoFrame) -> int:
    """The value, out of 65535, to which ffmpeg converts white: it shifts bits instead of multiplying."""
    bits = frame.format.components[0].bits
    if bits == 8:
        return 255 << 8
    if is_rgb(frame):
        return 65535
    return (255 << 8) + 3 if frame.color_range != ColorRange.JPEG else ((1 << bits) - 1) << (16 - bits)


def has_alpha(frame: av.VideoFrame) -> bool:
    """Whether a frame has transparency."""
    return any(part.is_alpha for part in frame.format.components) or frame.format.name == "pal8"


def display_matrix(frame: av.VideoFrame) -> tuple[float, float, float, float]:
    """``a, b, c, d`` of ``(x, y) -> (a x + c y, b x + d y)``, y downwards, from storage to display.

    Phones store upright video rotated by 90 degrees.
    """
    if (side := frame.side_data.get(SideData.DISPLAYMATRIX)) is None:
        return UPRIGHT
    a, b, _, c, d, *_ = (value / 65536 for value in np.frombuffer(bytes(side), np.int32).tolist())
    return a, b, c, d


def lies(matrix: tuple[float, float, float, float]) -> bool:
    """Whether a display matrix swaps rows and columns."""
    return abs(matrix[0]) < abs(matrix[1])


def upright(
    pixels: UInt8[np.ndarray, "h w 3"], matrix: tuple[float, float, float, float]
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Pixels rotated (to the nearest multiple of 90 degrees) and mirrored by a display matrix."""
    a, b, c, d = matrix
    if lies(matrix):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
