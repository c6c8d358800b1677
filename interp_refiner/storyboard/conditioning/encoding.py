"""Encodes keyframes as latents for their latent slots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.data.codec import Codec
from interp_refiner.storyboard.file.keyframe import Keyframe
from interp_refiner.storyboard.file.media import as_tensor, fitted, fitted_frames
from interp_refiner.storyboard.file.timeline import Placed
from interp_refiner.storyboard.plan.plan import VideoPlan


@dataclass(frozen=True)
class Encoded:
    """The keyframes of a clip as latents.

    Attributes:
        values: the encoded keyframes, 0 elsewhere.
        known, given: latent frames that are keyframes, and those that are constraints.
    """

    values: Float[Tensor, "1 c t y x"]
    known: Bool[Tensor, "1 t"]
    given: Bool[Tensor, "1 t"]


def encode_keyframes(
    codec: Codec, plan: VideoPlan, keyframes: Sequence[Keyframe], device: torch.device
) -> tuple[Encoded, list[int]]:
    """The encoded keyframes of a plan on ``device``, and the latent frames of those that must be generated.

    Raises:
        BadValue: an error of :func:`encode_keyframe`; names the keyframe.
    """
    c, t, y, x = plan.latent_shape
    values = torch.zeros(1, c, t, y, x, device=device)
    given = torch.zeros(1, t, dtype=torch.bool, device=device)
    known = given.clone()
    wanted: list[int] = []
    for placed in plan.placed:
        keyframe = keyframes[placed.index]
        if keyframe.generated:
            wanted += placed.slots
            continue
        try:
            latents = encode_keyframe(codec, keyframe, placed, (c, y, x), device)
        except BadValue as error:
            name = error.name if error.name == "codec" else f"keyframes[{placed.index}].{error.name}"
            raise BadValue(name, error.value, error.allowed) from None
        stretch = slice(placed.slots.start, placed.slots.stop)
        values[0, :, stretch] = latents.to(values.dtype)
        known[:, stretch], given[:, stretch] = True, keyframe.given
    return Encoded(values, known, given), wanted


@torch.no_grad()
def encode_keyframe(
    codec: Codec, keyframe: Keyframe, placed: Placed, size: tuple[int, int, int], device: torch.device
) -> Float[Tensor, "c n y x"]:
    """The latents of a keyframe's slots.

    A picture is encoded by the codec's :class:`Still`. A video that starts later than slot 0 gets a copy of its first
    frame in front, whose latent is dropped, because a causal codec encodes the first frame alone.

    Args:
        codec: of the pipeline.
        keyframe: of any size; ``keyframe.fit`` says how it is fitted.
        placed: its position on the grid.
        size: ``(c, y, x)`` of the video's latents.
        device: to encode on.

    Raises:
        BadValue: latents of another size, or a codec that cannot encode.
    """
    if keyframe.latents is not None:
        found = (keyframe.latents.shape[0], *keyframe.latents.shape[2:])
        if found != size:
            raise BadValue("latents", list(keyframe.latents.shape), f"[c, n, y, x] with c, y, x = {list(size)}")
        return keyframe.latents.to(device)
    if codec.caveat:
        allowed = "codec=wan_vae codec.folder=<folder>, or keyframes as latents: this codec only shows previews"
        raise BadValue("codec", codec.name, allowed)
    height, width = (side * codec.spatial_factor for side in size[1:])
    frames = pixels(keyframe, width, height).to(device)
    if keyframe.image is not None:
        return codec.encode_still(frames.transpose(0, 1), placed.slots.start).transpose(0, 1)
    return _encode_video(codec, frames, placed)


def pixels(keyframe: Keyframe, width: int, height: int) -> Float[Tensor, "3 n h w"]:
    """The frames of an image or a video, fitted to a size."""
    if isinstance(keyframe.image, Image.Image):
        return as_tensor(fitted(keyframe.image, width, height, keyframe.fit)).unsqueeze(1)
    frames = as_tensor(keyframe.image).unsqueeze(1) if keyframe.image is not None else keyframe.video
    assert isinstance(frames, Tensor)
    return fitted_frames(frames, width, height, keyframe.fit)


def fit_notes(keyframes: Sequence[Keyframe], width: int, height: int) -> list[str]:
    """A line for every keyframe that is fitted to the size of the video."""
    notes = []
    for index, keyframe in enumerate(keyframes):
        if keyframe.pictures and (size := _size(keyframe)) != (width, height):
            about = f"{size[0]}x{size[1]}, the video {width}x{height}: {keyframe.fit}"
            notes.append(f"keyframes[{index}] {keyframe.name} is {about}".replace("  ", " "))
    return notes


def _size(keyframe: Keyframe) -> tuple[int, int]:
    """Width and height of the pictures of a keyframe."""
    picture: Any = keyframe.image if keyframe.image is not None else keyframe.video
    if isinstance(picture, Image.Image):
        return picture.size
    height, width = picture.shape[-2:] if isinstance(picture, Tensor) else picture.shape[:2]
    return width, height


def _encode_video(codec: Codec, frames: Float[Tensor, "3 n h w"], placed: Placed) -> Float[Tensor, "c slots y x"]:
    slots, first = len(placed.slots), placed.slots.start
    alone = int(codec.first_frame_alone)
    lead = alone if first > 0 else 0  # an extra first frame, encoded alone and dropped
    needed = slots * codec.temporal_factor - (alone * (codec.temporal_factor - 1) if first == 0 else 0)
    video = torch.cat([frames[:, :1].expand(-1, lead, -1, -1), frames[:, :needed]], 1)
    return codec.encode(video.unsqueeze(0))[0, :, lead:]
