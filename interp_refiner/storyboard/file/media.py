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
from interp_refiner.data.codec import UnreadableImage, as_shown
from interp_refiner.data.codec.frame import UnreadableVideo
from interp_refiner.data.codec.video_read import Film, at_rate, opened

Fit = Literal["crop", "pad", "stretch"]
Picture = Image.Image | np.ndarray | Tensor
Footage = np.ndarray | Tensor | Sequence[Picture]
INDEXED = ("mp4", "matroska")  # formats with exact seeking; in mpeg, frame times are estimated again after a seek
SLACK = 0.02  # resampling overshoots a little


@dataclass(frozen=True)
class Shown:
    """The content of a file.

    Attributes:
        pictures: in time order, of one size.
        remarks: phrases about conversions, unused parts and missing parts.
        rate: frames per second of a video; 0 if unknown.
    """

    pictures: list[Image.Image]
    remarks: list[str] = field(default_factory=list)
    rate: float = 0.0


def read_clip(key: str, path: Path, fps: float, limit: int) -> Shown:
    """The first frames of a video file at another rate.

    Args:
        key: key of the storyboard entry with the file, for the error.
        path: the file.
        fps: wanted frames per second; frames are repeated or left out, see :func:`at_rate`.
        limit: largest number of frames; decoding stops there.

    Raises:
        BadValue: no such file, or not a video.
    """
    with _film(key, path) as film:
        frames = at_rate(film.frames(), fps if film.rate else None, limit)
        pictures = [film.picture(frame) for frame in frames]
        remarks = film.remarks
    if not pictures:
        raise BadValue(key, path, "a video with at least one frame")
    return Shown(pictures, remarks, film.rate)


def read_frame(key: str, path: Path, which: Callable[[Sequence[float]], int]) -> Shown:
    """One frame of a video file; with an index, decoding starts at the last intra-coded frame before it.

    Args:
        key: key of the storyboard entry with the file, for the error.
        path: the file.
        which: returns the number of the frame, given the display times of all frames (seconds after the first).

    Raises:
        BadValue: no such file, not a video, or a damaged one.
    """
    with _film(key, path) as film:
        stamps = film.stamps()  # nothing is decoded here
        number = which(_from_first(key, path, stamps))
        found = Shown([], film.faults, film.rate)
        if any(name in film.container.format.name for name in INDEXED):
            film.container.seek(round(stamps[number] / film.stream.time_base), stream=film.stream)
            base = film.stream.time_base
            reached = (frame for frame in film.frames() if frame.pts is None or frame.pts * base >= stamps[number])
            frame = next(reached, None)
            if frame is not None and frame.pts is not None and frame.pts * base == stamps[number]:
                return replace(found, pictures=[film.picture(frame)], remarks=film.remarks)
    with _film(key, path) as film:
        for index, frame in enumerate(film.frames()):
            if index == number:
                remarks = dict.fromkeys([*found.remarks, *film.remarks])  # the first film was read to its end
                return replace(found, pictures=[film.picture(frame)], remarks=list(remarks))
    raise BadValue(key, path, ": ".join([f"a video that can be decoded up to frame {number}", *film.faults]))


def frame_start(key: str, path: Path, which: Callable[[Sequence[float]], int]) -> float:
    """Seconds from the first frame of a video to the frame that ``which`` chooses, see :func:`read_frame`."""
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
    """The picture at another size; unchanged if it has that size.

    ``crop`` fills the frame and cuts off two sides, ``pad`` shows the whole picture with black bars, ``stretch``
    changes the aspect. All use Lanczos.
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
    """Frames at another size, like :func:`fitted` but without rounding to bytes; unchanged if they have that size."""
    if frames.shape[2:] == (height, width):
        return frames
    planes = [Image.fromarray(plane.numpy()) for plane in frames.float().cpu().flatten(0, 1)]
    made = np.stack([np.asarray(fitted(plane, width, height, fit)) for plane in planes])
    return torch.from_numpy(made).unflatten(0, frames.shape[:2]).clamp(0, 1).to(frames.device)


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture converted as :func:`read_image` converts its file; raises :class:`BadValue` for unsupported colours."""
    try:
        return as_shown(image)[0]
    except UnreadableImage as error:
        raise BadValue("image", image, f"a picture with supported colours: {error}") from error


def as_tensor(image: Picture) -> Float[Tensor, "3 h w"]:
    """RGB in 0..1; pictures of PIL are converted by :func:`as_rgb`.

    Raises:
        BadValue: another shape, or floating-point numbers outside 0..1.
    """
    if isinstance(image, Image.Image):
        image = np.array(as_rgb(image))
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3:
            raise BadValue("image", list(image.shape), "an array [h, w, 3] of RGB")
        image = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    if not isinstance(image, Tensor):
        raise BadValue("image", image, "a picture of PIL, an array or a tensor; PIL's Image.open reads a file")
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
