"""Pictures that compare truth, interpolation and refinement: a side-by-side video, or a sheet of frames."""

from bisect import bisect_right
from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.data.codec.video_io import Frames, Video, as_frames

PAPER, INK, KEYFRAME = (255, 255, 255), (40, 40, 40), (230, 120, 0)
BORDER = 3  # pixels around every frame, coloured for keyframes
FONT_SIZE = 15
LINE = FONT_SIZE + 7
HEAD = 2 * LINE  # rows of text above a video
SHEET_HEIGHT, VIDEO_SIDE = 64, 256  # least size of a frame's shorter side, in pixels


def contact_sheet(
    videos: Sequence[Video],
    labels: Sequence[str],
    keyframes: Bool[Tensor, " _t"] | None = None,
    title: str = "",
    columns: int = 21,
    scale: int | None = None,
    first: int = 0,
) -> Image.Image:
    """One row per video, one column per frame, frame numbers above, an orange border around keyframes.

    Args:
        videos: of equal size and length, for example truth, interpolation and refinement.
        labels: labels of the rows.
        keyframes: which frames are keyframes.
        title: text at the top, for example the prompt, the level and the codec's caveat; cut to the sheet's width.
        columns: largest number of columns; a longer video shows evenly spaced frames, including the first and last.
        scale: enlargement of the frames; None chooses a legible size.
        first: number of the first frame.
    """
    rows = _panels(videos, labels, keyframes, scale, SHEET_HEIGHT)
    num_frames, height, width = rows[0].shape[:3]
    shown = np.unique(np.linspace(0, num_frames - 1, min(columns, num_frames)).round().astype(int))
    left = ceil(max(map(_font().getlength, labels))) + 2 * BORDER
    top = LINE * (2 if title else 1)
    sheet = Image.new("RGB", (left + len(shown) * width, top + len(rows) * height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((BORDER, BORDER), fitting(title, sheet.width - 2 * BORDER), INK, _font())
    for column, frame in enumerate(shown):
        x = left + column * width
        is_key = keyframes is not None and bool(keyframes[frame])
        draw.text(
            (x + width // 2, top - LINE // 2), str(first + frame), KEYFRAME if is_key else INK, _font(), anchor="mm"
        )
        for row, panel in enumerate(rows):
            sheet.paste(Image.fromarray(panel[frame].numpy()), (x, top + row * height))
    for row, label in enumerate(labels):
        draw.text((BORDER, top + row * height + height // 2), label, INK, _font(), anchor="lm")
    return sheet


def panel_size(height: int, width: int, scale: int | None = None) -> tuple[int, int]:
    """Height and width of one panel in :func:`side_by_side`, without the ``HEAD`` rows of text above it."""
    scale = scale or legible_scale(height, width)
    return scale * height + 2 * BORDER, scale * width + 2 * BORDER


def side_by_side(
    videos: Sequence[Video],
    labels: Sequence[str],
    keyframes: Bool[Tensor, " _t"] | None = None,
    title: str = "",
    scale: int | None = None,
) -> Frames:
    """One video that shows the given videos side by side, with labels, a frame counter, and borders on keyframes.

    Arguments as for :func:`contact_sheet`; pass the result to ``write_mp4`` or ``add_video``.
    """
    panels = _panels(videos, labels, keyframes, scale, VIDEO_SIDE)
    num_frames, _, width = panels[0].shape[:3]
    counter = ceil(_font().getlength(f"{num_frames - 1} / {num_frames - 1}"))
    total = max(len(panels) * width, counter + 4 * BORDER)
    title = fitting(title, total - counter - 4 * BORDER)
    heads = []
    for frame in range(num_frames):
        head = Image.new("RGB", (total, HEAD), PAPER)
        draw = ImageDraw.Draw(head)
        draw.text((BORDER, BORDER), title, INK, _font())
        draw.text((total - BORDER, BORDER), f"{frame} / {num_frames - 1}", INK, _font(), anchor="ra")
        for panel, label in enumerate(labels):
            place = (panel * width + width // 2, LINE + LINE // 2)
            draw.text(place, fitting(label, width - 2 * BORDER), INK, _font(), anchor="mm")
        heads.append(torch.from_numpy(np.array(head)))
    body = torch.nn.functional.pad(torch.cat(panels, 2), (0, 0, 0, total - len(panels) * width), value=PAPER[0])
    return torch.cat([torch.stack(heads), body], 1)


def stacked(images: Sequence[Image.Image]) -> Image.Image:
    """Stacks the contact sheets of several clips vertically."""
    sheet = Image.new("RGB", (max(image.width for image in images), sum(image.height for image in images)), PAPER)
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height
    return sheet


def _panels(
    videos: Sequence[Video],
    labels: Sequence[str],
    keyframes: Bool[Tensor, " _t"] | None,
    scale: int | None,
    legible: int,
) -> list[Frames]:
    """Every video with a border around its frames, enlarged by ``scale``.

    Without a scale, the shorter side gets at least ``legible`` pixels.
    """
    frames = [as_frames(video) for video in videos]
    sizes = sorted({tuple(f.shape[:3]) for f in frames})
    if len(sizes) != 1:
        raise BadValue("videos", sizes, "at least one video, all of the same frames, height and width")
    num_frames, height, width = sizes[0]
    if len(labels) != len(frames):
        raise BadValue("labels", list(labels), f"{len(frames)} labels, one per video")
    if keyframes is not None and len(keyframes) != num_frames:
        raise BadValue("keyframes", len(keyframes), f"{num_frames} values, one per frame")
    scale = scale or legible_scale(height, width, legible)
    return [_bordered(as_frames(f, scale), keyframes) for f in frames]


def legible_scale(height: int, width: int, side: int = VIDEO_SIDE) -> int:
    """The integer factor that enlarges the shorter side of a frame to at least ``side`` pixels."""
    return max(1, ceil(side / min(height, width)))


def fitting(text: str, width: int) -> str:
    """``text``, shortened with an ellipsis if it is wider than ``width`` pixels."""
    if _font().getlength(text) <= width:
        return text
    fits = bisect_right(range(len(text)), width, key=lambda n: ceil(_font().getlength(f"{text[:n]}...")))
    return f"{text[: max(0, fits - 1)]}..."


def _bordered(frames: UInt8[Tensor, "t h w 3"], keyframes: Bool[Tensor, " _t"] | None) -> Frames:
    t, h, w = frames.shape[:3]
    colours = torch.tensor([PAPER, KEYFRAME], dtype=torch.uint8)
    is_key = torch.zeros(t, dtype=torch.long) if keyframes is None else keyframes.long().cpu()
    framed = colours[is_key].view(t, 1, 1, 3).repeat(1, h + 2 * BORDER, w + 2 * BORDER, 1)
    framed[:, BORDER:-BORDER, BORDER:-BORDER] = frames
    return framed


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_SIZE)
