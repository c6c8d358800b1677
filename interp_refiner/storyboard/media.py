"""Pictures and video frames from files, brought to the size of the video."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.stream import VideoStream
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.data.codec.video_read import UnreadableVideo, at_rate, opened, picture, pixel_aspect

Fit = Literal["crop", "pad", "stretch"]
Picture = Image.Image | np.ndarray | Tensor
Footage = np.ndarray | Tensor | Sequence[Picture]
INDEXED = ("mp4", "matroska")  # formats whose seeking is exact; in mpeg the times of frames are guessed anew
SLACK = 0.02  # resampling overshoots a little
IMAGES = ("png", "jpg", "jpeg", "webp")


def read_image(path: Path) -> Image.Image:
    """An image file as RGB, turned as its EXIF data says, transparency over black.

    Raises:
        BadValue: no such file, or no picture in it.
    """
    _check_file("image", path, f"an image file ({' | '.join(IMAGES)})")
    try:
        with Image.open(path) as opened:
            image = _eight_bits(ImageOps.exif_transpose(opened))
            if image.has_transparency_data:
                image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
            return image.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        reason = "no image file" if isinstance(error, UnidentifiedImageError) else error
        raise BadValue("image", path, f"an image ({' | '.join(IMAGES)}), whole and readable: {reason}") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8, which Pillow itself would clip instead of scaling; other modes as they are."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8))


def read_clip(key: str, path: Path, fps: float, limit: int) -> tuple[list[Image.Image], float]:
    """The first frames of a video file at another rate, and its own frames a second (0 where it does not say).

    Args:
        key: of the entry that names the file, for the error.
        path: the file.
        fps: frames a second that are wanted: some are repeated or left out, as :func:`at_rate` does.
        limit: how many frames at most; no more of the file is decoded.

    Raises:
        BadValue: no such file, or no video in it.
    """
    with _opened(key, path) as (container, stream):
        rate = float(stream.average_rate or 0)
        frames = at_rate(decoded(container, stream), fps if rate else None, limit)
        pictures = [picture(frame, pixel_aspect(stream)) for frame in frames]
    if not pictures:
        raise BadValue(key, path, "a video with at least one frame")
    return pictures, rate


def read_frame(key: str, path: Path, which: Callable[[int, float], int]) -> Image.Image:
    """One frame of a video file; from the last intra-coded frame before it on, if the file has an index of them.

    Args:
        key: of the entry that names the file, for the error.
        path: the file.
        which: the number of the frame, from how many there are and how many a second.

    Raises:
        BadValue: no such file, no video in it, or a damaged one.
    """
    with _opened(key, path) as (container, stream):
        packets = [packet.pts for packet in container.demux(stream) if packet.size]  # nothing is decoded here
        if not packets:
            raise BadValue(key, path, "a video with at least one frame")
        number = which(len(packets), float(stream.average_rate or 1))
        times = sorted(time for time in packets if time is not None)
        if len(times) == len(packets) and any(name in container.format.name for name in INDEXED):
            container.seek(times[number], stream=stream)
            for frame in decoded(container, stream):
                if frame.pts is None or frame.pts >= times[number]:
                    break
            if frame.pts == times[number]:
                return picture(frame, pixel_aspect(stream))
    with _opened(key, path) as (container, stream):
        for index, frame in enumerate(decoded(container, stream)):
            if index == number:
                return picture(frame, pixel_aspect(stream))
    raise BadValue(key, path, f"a video that can be decoded up to frame {number}")


def decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Frames in the order in which they are shown."""
    return container.decode(stream)


@contextmanager
def _opened(key: str, path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    _check_file(key, path, "a video file")
    try:
        with opened(path) as (container, stream):
            yield container, stream
    except (av.FFmpegError, UnreadableVideo) as error:
        raise BadValue(key, path, "a video that can be decoded") from error


def fitted(image: Image.Image, width: int, height: int, fit: Fit) -> Image.Image:
    """The picture at another size; itself where it has it.

    ``crop`` fills the frame and cuts off what stands out on two sides, ``pad`` shows the whole picture between black
    bars, ``stretch`` changes its aspect. Lanczos in all.
    """
    size = (width, height)
    if image.size == size:
        return image
    if fit == "crop":
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    if fit == "pad":
        return ImageOps.pad(image, size, Image.Resampling.LANCZOS)
    return image.resize(size, Image.Resampling.LANCZOS)


def as_tensor(image: Picture) -> Float[Tensor, "3 h w"]:
    """RGB in 0..1.

    Raises:
        BadValue: something of another shape, or numbers outside 0..1 that are no bytes.
    """
    if isinstance(image, Image.Image):
        image = np.array(image.convert("RGB"))
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3:
            raise BadValue("image", list(image.shape), "an array [h, w, 3] of RGB")
        image = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    if image.ndim != 3 or image.shape[0] != 3:
        raise BadValue("image", list(image.shape), "a tensor [3, h, w] of RGB")
    if image.dtype == torch.uint8:
        return image.float() / 255
    if not (float(image.min()) >= -SLACK and float(image.max()) <= 1 + SLACK):
        raise BadValue("image", f"{float(image.min()):g} to {float(image.max()):g}", "RGB in 0..1, or bytes")
    return image.float()


def as_video(video: Footage) -> Float[Tensor, "3 n h w"]:
    """RGB in 0..1, of a tensor, an array ``[n, h, w, 3]`` or pictures of one size; raises as :func:`as_tensor`."""
    frames = video.unbind(1) if isinstance(video, Tensor) and video.ndim == 4 else list(video)
    pictures = [as_tensor(frame) for frame in frames]
    if not pictures or len({picture.shape for picture in pictures}) > 1:
        raise BadValue("video", f"{len(pictures)} frames", "at least one frame, all of one size")
    return torch.stack(pictures, 1)


def _check_file(key: str, path: Path, allowed: str) -> None:
    if not path.is_file():
        raise BadValue(key, path, f"{allowed}: no such file")
