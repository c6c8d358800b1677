"""Writes decoded video as mp4, gif or TensorBoard images."""

import io
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import Summary

from interp_refiner.core import at_least, positive
from interp_refiner.data.codec.container import file_url
from interp_refiner.data.codec.sound import Sound

# For frames only a few macroblocks wide, macroblock-tree rate control reads uninitialised memory, and two encodings of
# the same frames differ. Without it the same frames give the same bytes.
X264 = {"mbtree": "0"}
YUV: dict[str, Any] = {
    "format": "yuv420p",
    "dst_colorspace": Colorspace.ITU709,
    "dst_color_range": ColorRange.MPEG,
    "interpolation": Interpolation.AREA,  # for chroma, which is stored at half the resolution
}
BT709, TV_RANGE = 1, 1  # numbers of H.273, which ffmpeg uses: primaries, transfer and matrix; luma in 16..235

Video = Float[Tensor, "3 t h w"] | UInt8[Tensor, "t h w 3"]
Frames = UInt8[Tensor, "t rows columns 3"]


def as_frames(video: Video, scale: int = 1) -> Frames:
    """Frames of 8-bit RGB on the host, enlarged by the factor ``scale`` (nearest neighbour).

    Args:
        video: RGB in 0..1 (values outside are clamped), or 8-bit frames.
        scale: at least 1.
    """
    at_least(1, scale=scale)
    if video.dtype != torch.uint8:
        video = (video.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 3, 0)
    return video.cpu().repeat_interleave(scale, 1).repeat_interleave(scale, 2)


def write_mp4(
    path: Path | str, video: Video, fps: float, scale: int = 1, crf: int = 16, sound: Sound | None = None
) -> Path:
    """Writes H.264 in yuv420p, which every browser plays; odd sizes are padded by repeating the last row or column.

    Colours are converted by BT.709 and tagged so, because players disagree on whether untagged video of this size is
    BT.601 or BT.709. The same frames give the same bytes.

    Args:
        path: its folder is created if missing; an existing file is replaced.
        video: see :func:`as_frames`.
        fps: frames per second.
        scale: see :func:`as_frames`.
        crf: the quality of x264, 0 (lossless) to 51; 6 more give about half the bytes.
        sound: the sound track; None for silence.
    """
    positive("fps", fps, "frames per second")
    frames = as_frames(video, scale).numpy()
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    options = X264 | {"crf": str(crf)}
    with av.open(file_url(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = TV_RANGE
        audio = None if sound is None else sound.stream(container)
        for frame in frames:
            rgb = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(rgb.reformat(**YUV)))
        container.mux(stream.encode())
        if sound is not None and audio is not None:
            container.mux(sound.packets(audio, len(frames) / fps))
    return path


def gif_bytes(video: Video, fps: float, scale: int = 1) -> bytes:
    """A looping animated gif; at most 50 frames per second, the limit of most viewers."""
    first, *others = (Image.fromarray(frame) for frame in as_frames(video, scale).numpy())
    buffer = io.BytesIO()
    # gif counts hundredths of a second: rounded times instead of rounded durations keep the speed
    times = [10 * round(100 * number / min(fps, 50)) for number in range(len(others) + 2)]
    durations = [after - before for before, after in pairwise(times)]
    first.save(buffer, "gif", save_all=True, append_images=others, duration=durations, loop=0)
    return buffer.getvalue()


def add_video(writer: SummaryWriter, tag: str, video: Video, step: int, fps: float, scale: int = 1) -> None:
    """Shows a video under TensorBoard's images, as an animated gif; unlike ``writer.add_video`` it needs no moviepy."""
    height, width = as_frames(video[:1] if video.dtype == torch.uint8 else video[:, :1], scale).shape[1:3]
    gif = gif_bytes(video, fps, scale)
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
