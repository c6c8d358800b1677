"""Codecs between pixels and latents, and pictures for people. ``wan_vae`` is slow to load: imported only on request."""

from interp_refiner.data.codec.codec import Codec
from interp_refiner.data.codec.contact_sheet import (
    HEAD,
    contact_sheet,
    legible_scale,
    panel_size,
    side_by_side,
    stacked,
)
from interp_refiner.data.codec.declared import declared_codec
from interp_refiner.data.codec.frame import UnreadableVideo
from interp_refiner.data.codec.image_read import PICTURE_SUFFIXES, UnreadableImage, as_shown, decode_picture, read_image
from interp_refiner.data.codec.patch_dct import PatchDCT
from interp_refiner.data.codec.preview import LatentPreview
from interp_refiner.data.codec.sound import Sound, has_sound
from interp_refiner.data.codec.still import Still
from interp_refiner.data.codec.still_gap import still_gap
from interp_refiner.data.codec.video_io import add_video, as_frames, gif_bytes, write_mp4
from interp_refiner.data.codec.video_read import VIDEO_SUFFIXES, count_frames, decode_video, opened, read_video

__all__ = [
    "HEAD",
    "PICTURE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Codec",
    "LatentPreview",
    "PatchDCT",
    "Sound",
    "Still",
    "UnreadableImage",
    "UnreadableVideo",
    "add_video",
    "as_frames",
    "as_shown",
    "contact_sheet",
    "count_frames",
    "declared_codec",
    "decode_picture",
    "decode_video",
    "gif_bytes",
    "has_sound",
    "legible_scale",
    "opened",
    "panel_size",
    "read_image",
    "read_video",
    "side_by_side",
    "stacked",
    "still_gap",
    "write_mp4",
]
