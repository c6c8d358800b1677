"""Wan2.1 latents: the metadata of their shards, and a small data set cut from a single long clip."""

import inspect
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from interp_refiner.core import BadValue, load_tensor
from interp_refiner.data.shards import DatasetMetadata, Sample, write_shards

FPS = 16.0  # of the pixel frames of Wan2.1


def wan_synth_metadata(
    latent_shape: Sequence[int] = (16, 21, 60, 104),
    text_shape: Sequence[int] | None = (512, 4096),
    normalised: bool = True,
    made_by: dict[str, Any] | None = None,
) -> DatasetMetadata:
    """The metadata of bfloat16 Wan2.1 latents; factors and statistics are the autoencoder's own defaults.

    Args:
        latent_shape: ``[C, T, H, W]`` of one sample.
        text_shape: ``[L, D]`` of the umT5 embeddings; None if there are none.
        normalised: whether ``(z - mean) / std`` is already applied to the stored latents. True for latents that Wan
            generated, false for latents that its autoencoder encoded.
        made_by: how the set was made.
    """
    from diffusers import AutoencoderKLWan  # takes seconds to import, and is needed only here

    defaults = {name: p.default for name, p in inspect.signature(AutoencoderKLWan.__init__).parameters.items()}
    return DatasetMetadata(
        latent_shape=tuple(latent_shape),
        text_shape=(text_shape[0], text_shape[1]) if text_shape is not None else None,
        text={"name": "umt5"} if text_shape is not None else {},
        codec={
            "name": "wan_vae",
            "temporal_factor": defaults["scale_factor_temporal"],
            "spatial_factor": defaults["scale_factor_spatial"],
            "first_frame_alone": True,
        },
        latents_mean=list(defaults["latents_mean"]),
        latents_std=list(defaults["latents_std"]),
        normalised=normalised,
        fps=FPS,
        made_by=made_by or {},
    )


def windows(
    latents: Shaped[Tensor, "c t h w"], size: Sequence[int], stride: Sequence[int]
) -> Iterator[tuple[tuple[int, int, int], Shaped[Tensor, "c wt wh ww"]]]:
    """All windows of ``size = (t, h, w)`` at steps of ``stride``, and the windows that touch the end of an axis.

    Yields ((t, h, w) of the corner, view of the window).

    Raises:
        BadValue: a window larger than the latents, or a stride below 1.
    """
    names = ("frames", "height", "width")
    for name, extent, length, step in zip(names, latents.shape[1:], size, stride, strict=True):
        if not 1 <= length <= extent:
            raise BadValue("size", list(size), f"windows within the latents, whose {name} is {extent}")
        if step < 1:
            raise BadValue("stride", list(stride), "steps of at least 1")
    starts = [
        sorted({*range(0, extent - length + 1, step), extent - length})
        for extent, length, step in zip(latents.shape[1:], size, stride, strict=True)
    ]
    for t, h, w in product(*starts):
        yield (t, h, w), latents[:, t : t + size[0], h : h + size[1], w : w + size[2]]


def load_clip(source: str | Path) -> Float[Tensor, "c t h w"]:
    """The one clip in a tensor file ``[c, t, h, w]`` or ``[1, c, t, h, w]``, on the CPU.

    Raises:
        BadValue: no such clip in ``source``.
    """
    wanted = "a tensor file [c, t, h, w] of one clip"
    latents = load_tensor("source", source, wanted)
    clip = latents[0] if latents.ndim == 5 and latents.shape[0] == 1 else latents
    if clip.ndim != 4:
        raise BadValue("source", source, f"{wanted}, it holds {list(clip.shape)}")
    return clip


def write_clip_windows(
    source: str | Path,
    output: str | Path,
    size: Sequence[int] = (16, 16, 16),
    stride: Sequence[int] = (1, 4, 4),
    held_out_width: int = 16,
    text_shape: Sequence[int] = (8, 32),
    normalised: bool = True,
) -> Path:
    """Cuts one clip of Wan latents into windows and writes them as Wan-synth shards with zero prompt embeddings.

    The rightmost ``held_out_width`` columns are held out. ``<output>/train`` holds all windows left of them, at steps
    of ``stride``. ``<output>/val`` holds tiles of the same region; training has seen them, so they measure the fit.
    ``<output>/val_heldout`` holds tiles of the held-out columns. They do not overlap the training windows, but show the
    same scene.

    Args:
        source: a tensor file ``[c, t, h, w]`` or ``[1, c, t, h, w]``.
        output: the folder to make.
        size: (t, h, w) of a window; Wan needs even heights and widths.
        stride: (t, h, w) between training windows.
        held_out_width: latent columns.
        text_shape: ``[L, D]`` of the zero embeddings.
        normalised: as in :func:`wan_synth_metadata`.

    Returns:
        ``output``.

    Raises:
        BadValue: no single clip in ``source``, or windows that do not fit.
        FileExistsError: ``output`` holds splits already.
    """
    if len(size) != 3 or size[1] % 2 or size[2] % 2:
        raise BadValue("size", list(size), "three numbers, frames, height and width, the last two even")
    if len(stride) != 3:
        raise BadValue("stride", list(stride), "three numbers, frames, height and width")
    latents = load_clip(source)
    width = latents.shape[3] - held_out_width
    if held_out_width < size[2] or width < size[2]:
        raise BadValue("held_out_width", held_out_width, f"{size[2]} to {latents.shape[3] - size[2]}, a window or more")
    splits = {
        "train": (latents[..., :width], stride),
        "val": (latents[..., :width], size),
        "val_heldout": (latents[..., width:], size),
    }
    metadata = wan_synth_metadata(
        latent_shape=(latents.shape[0], *size),
        text_shape=text_shape,
        normalised=normalised,
        made_by={"source": Path(source).name, "size": list(size), "stride": list(stride)},
    )
    for split, (region, step) in splits.items():
        text = torch.zeros(*text_shape)
        samples = (
            Sample("{}-t{:02d}-h{:03d}-w{:03d}".format(split, *corner), window, text)
            for corner, window in windows(region, size, step)
        )
        write_shards(Path(output) / split, samples, metadata)
    return Path(output)
