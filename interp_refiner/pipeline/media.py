"""Pictures and video frames from files, brought to the size of the video."""

from pathlib import Path
from typing import Literal

import av
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from interp_refiner.core import BadValue

Fit = Literal["crop", "pad", "stretch"]
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
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise BadValue("image", path, f"an image ({' | '.join(IMAGES)}), whole and readable: {error}") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8, which Pillow itself would clip instead of scaling; other modes as they are."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8))


def read_video(key: str, path: Path, limit: int | None = None) -> tuple[list[Image.Image], float]:
    """The first ``limit`` frames of a video file (None: all), and its frames a second.

    Args:
        key: of the entry that names the file, for the error.
        path: the file.
        limit: how many frames are read.

    Raises:
        BadValue: no such file, or no video in it.
    """
    _check_file(key, path, "a video file")
    frames: list[Image.Image] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 0)
            for frame in container.decode(stream):
                if limit is not None and len(frames) >= limit:
                    break
                frames.append(frame.to_image())
    except (av.FFmpegError, IndexError) as error:
        raise BadValue(key, path, "a video that can be decoded") from error
    if not frames:
        raise BadValue(key, path, "a video with at least one frame")
    return frames, rate


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


def as_tensor(image: Image.Image | Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    """RGB in 0..1."""
    if isinstance(image, Tensor):
        return image.float()
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def _check_file(key: str, path: Path, allowed: str) -> None:
    if not path.is_file():
        raise BadValue(key, path, f"{allowed}: no such file")
