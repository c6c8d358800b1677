"""Reads pictures and video frames for keyframes, and fits them to the size of the video."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.data.codec.frame import UnreadableVideo
from interp_refiner.data.codec.video_read import Film, at_rate, opened

Fit = Literal["crop", "pad", "stretch"]
Picture = Image.Image | np.ndarray | Tensor
Footage = np.ndarray | Tensor | Sequence[Picture]
INDEXED = ("mp4", "matroska")  # formats whose seeking is exact; in mpeg the times of frames are guessed anew
SLACK = 0.02  # resampling overshoots a little


@dataclass(frozen=True)
class Shown:
    """The content of a file.

    Attributes:
        pictures: in time order, of one size.
        remarks: one phrase each about conversions, unused parts and missing parts.
        rate: frames a second of a video, 0 where it does not say.
    """

    pictures: list[Image.Image]
    remarks: list[str] = field(default_factory=list)
    rate: float = 0.0


def read_clip(key: str, path: Path, fps: float, limit: int) -> Shown:
    """The first frames of a video file at another rate.

    Args:
        key: of the entry that names the file, for the error.
        path: the file.
        fps: frames a second that are wanted: some are repeated or left out, as :func:`at_rate` does.
        limit: how many frames at most; no more of the file is decoded.

    Raises:
        BadValue: no such file, or no video in it.
    """
    with _film(key, path) as film:
        frames = at_rate(film.frames(), fps if film.rate else None, limit)
        pictures = [film.picture(frame) for frame in frames]
        remarks = film.remarks
    if not pictures:
        raise BadValue(key, path, "a video with at least one frame")
    return Shown(pictures, remarks, film.rate)


def read_frame(key: str, path: Path, which: Callable[[Sequence[float]], int]) -> Shown:
    """One frame of a video file; from the last intra-coded frame before it on, if the file has an index of them.

    Args:
        key: of the entry that names the file, for the error.
        path: the file.
        which: the number of the frame, from the seconds at which all of them are shown, the first one at 0.

    Raises:
        BadValue: no such file, no video in it, or a damaged one.
    """
    with _film(key, path) as film:
        stamps = film.stamps()  # nothing is decoded here
        number = which(_from_first(key, path, stamps))
        found = Shown([], [], film.rate)
        if any(name in film.container.format.name for name in INDEXED):
            film.container.seek(round(stamps[number] / film.stream.time_base), stream=film.stream)
            for frame in film.frames():
                if frame.pts is None or frame.pts * film.stream.time_base >= stamps[number]:
                    break
            if frame.pts is not None and frame.pts * film.stream.time_base == stamps[number]:
                return replace(found, pictures=[film.picture(frame)], remarks=film.remarks)
    with _film(key, path) as film:
        for index, frame in enumerate(film.frames()):
            if index == number:
                return replace(found, pictures=[film.picture(frame)], remarks=film.remarks)
    raise BadValue(key, path, f"a video that can be decoded up to frame {number}")


def frame_start(key: str, path: Path, which: Callable[[Sequence[float]], int]) -> float:
    """Seconds from the first frame of a video to the one that is chosen as :func:`read_frame` chooses it."""
    with _film(key, path) as film:
        times = _from_first(key, path, film.stamps())
    return times[which(times)]


def _from_first(key: str, path: Path, stamps: Sequence[Fraction]) -> list[float]:
    if not stamps:
        raise BadValue(key, path, "a video with at least one frame")
    return [float(stamp - stamps[0]) for stamp in stamps]


@contextmanager
def _film(key: str, path: Path) -> Iterator[Film]:
    if not path.is_file():
        raise BadValue(key, path, "a video file: no such file")
    try:
        with opened(path) as film:
            yield film
    except UnreadableVideo as error:
        raise BadValue(key, path, f"a video that can be decoded: {error}") from error


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


def fitted_frames(
    frames: Float[Tensor, "3 n h w"], width: int, height: int, fit: Fit
) -> Float[Tensor, "3 n height width"]:
    """Frames at another size, as :func:`fitted` does it, without rounding to bytes; themselves where they have it."""
    if frames.shape[2:] == (height, width):
        return frames
    planes = [Image.fromarray(plane.numpy()) for plane in frames.float().cpu().flatten(0, 1)]
    made = np.stack([np.asarray(fitted(plane, width, height, fit)) for plane in planes])
    return torch.from_numpy(made).unflatten(0, frames.shape[:2]).clamp(0, 1).to(frames.device)


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
