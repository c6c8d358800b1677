"""Reads image files as RGB, as a viewer shows them."""

import io
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from interp_refiner.core import BadValue
from interp_refiner.data.codec import colour
from interp_refiner.data.codec.frame import UnreadableVideo
from interp_refiner.data.codec.jpeg import jpeg_fault

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF")  # Pillow reads more, some by starting programs
KINDS = " | ".join(map(str.lower, FORMATS))
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK")
UPRIGHT = {  # by the value of EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PNG = b"\x89PNG\r\n\x1a\n"
SRGB = ImageCms.createProfile("sRGB")
NEAR = 2  # out of 255: a profile that changes no colour by more is treated as sRGB
ADOBE_GAMMA, SRGB_GAMMA = 563 / 256, 0.45455


def read_image(path: Path) -> tuple[Image.Image, list[str]]:
    """An image file as 8-bit sRGB, rotated by its EXIF data, composited over black; and remarks on what was converted.

    Raises:
        BadValue: no such file, not an image, or unsupported colours.
    """
    if not path.is_file():
        raise BadValue("image", path, f"an image file ({KINDS}): no such file")
    try:
        with Image.open(path, formats=FORMATS) as opened:
            if opened.format in ("JPEG", "MPO") and (fault := jpeg_fault(path.read_bytes())):
                raise UnreadableImage(fault)
            return as_shown(opened)
    except Exception as error:  # Pillow raises exceptions of many kinds for damage
        reason = "not an image file" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise BadValue("image", path, f"a complete, readable image ({KINDS}): {reason}") from error


def decode_picture(
    path: Path, shape: Callable[[float, float], tuple[int, int]]
) -> tuple[UInt8[Tensor, "1 h w 3"], list[str]]:
    """A picture as a video of one frame, scaled to cover a size and cropped to its centre; and remarks.

    Args:
        path: the file.
        shape: maps the picture's height and width to those of the frame.

    Raises:
        UnreadableVideo: :func:`read_image` refuses the file.
    """
    try:
        image, remarks = read_image(path)
    except BadValue as error:
        raise UnreadableVideo(error.allowed.rpartition(": ")[2]) from error
    height, width = shape(image.height, image.width)
    shown = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(shown)).unsqueeze(0), remarks


class UnreadableImage(ValueError):
    """A picture has unsupported colours; the message says which."""


def as_shown(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """A picture as 8-bit sRGB, as :func:`read_image` shows its file; the result has no metadata left to apply.

    Raises:
        UnreadableImage: unsupported colours.
    """
    remarks: list[str] = []
    if (frames := getattr(image, "n_frames", 1)) > 1:
        remarks.append(f"the first of its {frames} pictures is read")
    path = Path(os.fsdecode(getattr(image, "filename", "")))
    primaries, transfer = _coding(path) if path.is_file() else (2, 2)
    if transfer not in (*colour.SDR, colour.LINEAR):
        said = f"transfer function {transfer} ({colour.TRANSFERS.get(transfer, 'unknown')}) of H.273"
        said = f"HDR ({colour.TRANSFERS[transfer]})" if transfer in (colour.PQ, colour.HLG) else said
        raise UnreadableImage(f"{said} is not supported, convert it to sRGB first")
    deep = image.mode.startswith("I;16") or any("16" in str(tile.args) for tile in getattr(image, "tile", ()))
    image.load()
    if deep:
        remarks.append("16 bits are reduced to 8")
        image = _eight_bits(image)
    if image.mode not in MODES:
        raise UnreadableImage(f"pictures of mode {image.mode} are not supported, convert it to sRGB of 8 bits first")
    orientation, adobe = _exif(image, remarks)
    unit = " dpi" if "dpi" in image.info else " per unit"
    ratio = image.info.get("dpi") or image.info.get("aspect") or image.info.get("jfif_density", (1, 1))
    horizontal, vertical = map(float, ratio)
    if min(ratio) > 0 and abs(horizontal - vertical) > 0.01 * vertical:  # 0 is unknown
        remarks.append(f"pixels of {horizontal:.0f} x {vertical:.0f}{unit} are assumed to be square")
    rgb = _srgb(image, adobe, primaries, transfer, remarks)
    if (turn := UPRIGHT.get(orientation)) is not None:
        rgb = rgb.transpose(turn)
        remarks.append("rotated upright by its EXIF")
    if image.has_transparency_data and rgb.mode == "RGBA":
        opaque: Any = rgb.getchannel("A").getextrema()[0]
        if opaque < 255:
            remarks.append("transparent pixels become black")
        rgb = Image.alpha_composite(Image.new("RGBA", rgb.size, (0, 0, 0, 255)), rgb)
    shown = rgb.convert("RGB")
    shown.info = {}
    return shown, remarks


def _eight_bits(image: Image.Image) -> Image.Image:
    """Rounds 16-bit grey to 8 bits, where Pillow itself would clip, and a transparent colour to that of the pixels."""
    info = dict(image.info)
    transparent = info.pop("transparency", None)
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        image = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
        if transparent is not None:
            image.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    elif isinstance(transparent, tuple):  # Pillow keeps the upper 8 bits of colours
        info["transparency"] = tuple(value >> 8 for value in transparent)
    image.info = info
    return image


def _exif(image: Image.Image, remarks: list[str]) -> tuple[int, bool]:
    """Orientation (1: upright), and whether the camera wrote Adobe RGB; damaged EXIF is ignored."""
    try:
        exif = image.getexif()
        has_interop = ExifTags.IFD.Interop in exif.get_ifd(ExifTags.IFD.Exif)
        interop = exif.get_ifd(ExifTags.IFD.Interop) if has_interop else {}
        return exif.get(ExifTags.Base.Orientation, 1), interop.get(1) == "R03"
    except Exception:
        remarks.append("its EXIF is unreadable and ignored")
        return 1, False


def _srgb(image: Image.Image, adobe: bool, primaries: int, transfer: int, remarks: list[str]) -> Image.Image:
    """RGB or RGBA in sRGB, by the first of these that exists: ICC profile, colour tags, EXIF, PNG gamma."""
    transparent = image.has_transparency_data
    if profile := image.info.get("icc_profile"):
        return _by_profile(image, profile, remarks)
    if "icc_profile" in image.info:
        remarks.append("its ICC profile is unreadable and ignored")
    if image.mode == "CMYK":
        remarks.append("CMYK without a profile is converted approximately")
    image = image.convert("RGBA" if transparent else "RGB")
    if primaries not in (*colour.PRIMARIES, *colour.UNSPECIFIED):
        raise UnreadableImage(f"colour primaries {primaries} of H.273 are not supported, convert it to sRGB first")
    if primaries not in (1, *colour.UNSPECIFIED) or transfer == colour.LINEAR:
        name, chromaticities = colour.PRIMARIES.get(primaries, colour.PRIMARIES[1])
        linear = f", {colour.TRANSFERS[transfer]}" if transfer == colour.LINEAR else ""
        remarks.append(f"{name}{linear} is converted to sRGB")
        return _converted(image, chromaticities, transfer if linear else 13)
    if adobe:
        remarks.append("Adobe RGB (by its EXIF) is converted to sRGB")
        return _converted(image, colour.ADOBE_RGB, ADOBE_GAMMA)
    if primaries in colour.UNSPECIFIED and "srgb" not in image.info:
        return _by_gamma(image, remarks)
    return image


def _by_gamma(image: Image.Image, remarks: list[str]) -> Image.Image:
    """Converts from a PNG's ``gAMA`` and ``cHRM`` to sRGB; without ``gAMA``, ``cHRM`` is ignored."""
    gamma: float = image.info.get("gamma") or 0.0
    points = image.info.get("chromaticity", (*colour.D65, *sum(colour.BT709, ())))
    white, *found = zip(points[::2], points[1::2], strict=True)
    wide = not np.allclose(found, colour.BT709, atol=0.005)
    if wide and (not gamma or not np.allclose(white, colour.D65, atol=0.005) or min(y for _, y in found) <= 0):
        remarks.append("its own primaries (cHRM) are ignored: they need a gamma (gAMA), and D65 as white")
        wide = False
    curved = gamma > 0 and abs(gamma - SRGB_GAMMA) > 0.01
    if not wide and not curved:
        return image
    remarks.append(f"{'its own primaries (cHRM), ' if wide else ''}gamma {gamma:g} is converted to sRGB")
    return _converted(image, found if wide else colour.BT709, 1 / gamma)


def _converted(image: Image.Image, primaries: Sequence[colour.XY], transfer: int | float) -> Image.Image:
    pixels = np.asarray(image)
    rgb = Image.fromarray(colour.to_srgb(pixels[..., :3].astype(np.uint16) * 257, primaries, transfer))
    if image.mode == "RGBA":
        rgb.putalpha(image.getchannel("A"))
    return rgb


def _by_profile(image: Image.Image, profile: bytes, remarks: list[str]) -> Image.Image:
    """Converts from an ICC profile to sRGB, relative colorimetric with black point compensation; alpha is kept."""
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    kind = {"1": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGBA": "RGB", "RGBX": "RGB"}.get(image.mode, image.mode)
    opaque = image.convert(kind)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip() or "without a name"
        transform = ImageCms.buildTransform(
            source, SRGB, kind, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        )
    except (ImageCms.PyCMSError, OSError) as error:
        remarks.append(f"its ICC profile is ignored: {error}")
        rgb = opaque.convert("RGB")
    else:
        if kind == "CMYK" or not _changes_nothing(transform, kind):
            opaque = ImageCms.applyTransform(opaque, transform) or opaque
            remarks.append(f"ICC profile '{name}' is converted to sRGB")
        rgb = opaque.convert("RGB")
    if alpha is not None:
        rgb.putalpha(alpha)
    return rgb


def _changes_nothing(transform: ImageCms.ImageCmsTransform, kind: str) -> bool:
    """Whether a transform leaves a grid of test colours unchanged."""
    levels = np.linspace(0, 255, 6).round().astype(np.uint8)
    channels = len(kind)
    cube = np.stack(np.meshgrid(*[levels] * channels), -1).reshape(1, -1, channels)
    before = Image.fromarray(cube.squeeze(-1) if channels == 1 else cube)
    after = np.asarray(ImageCms.applyTransform(before, transform)).astype(int)
    return bool(np.abs(after - np.asarray(before.convert("RGB"))).max() <= NEAR)


def _coding(path: Path) -> tuple[int, int]:
    """Primaries and transfer function (H.273) from PNG's ``cICP`` or AVIF's ``nclx``; 2 if there is neither."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
        if head.startswith(PNG):
            return _cicp(file)
    if head[4:8] == b"ftyp" and (at := head.find(b"colrnclx")) >= 0:
        return struct.unpack(">HH", head[at + 8 : at + 12])  # type: ignore[return-value]
    return 2, 2


def _cicp(file: BinaryIO) -> tuple[int, int]:
    """Primaries and transfer function from a PNG's chunk ``cICP``; skips the chunks before it, which may be long.

    Raises:
        UnreadableImage: limited range.
    """
    file.seek(len(PNG))
    while len(header := file.read(8)) == 8 and header[4:] != b"IDAT":
        if header[4:] == b"cICP" and len(coding := file.read(4)) == 4:
            if not coding[3]:
                raise UnreadableImage("limited range is not supported, convert it to full range first")
            return coding[0], coding[1]
        file.seek(int.from_bytes(header[:4]) + 4, os.SEEK_CUR)  # the content and its checksum
    return 2, 2
