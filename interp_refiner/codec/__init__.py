"""Between pixels and latents, and pictures for people. ``wan_vae``, slow to load, is imported only where asked for."""

from interp_refiner.codec.codec import Codec
from interp_refiner.codec.contact_sheet import contact_sheet, side_by_side, stacked
from interp_refiner.codec.declared import declared_codec
from interp_refiner.codec.patch_dct import PatchDCT
from interp_refiner.codec.preview import LatentPreview
from interp_refiner.codec.video_io import add_video, as_frames, gif_bytes, write_mp4

__all__ = [
    "Codec",
    "LatentPreview",
    "PatchDCT",
    "add_video",
    "as_frames",
    "contact_sheet",
    "declared_codec",
    "gif_bytes",
    "side_by_side",
    "stacked",
    "write_mp4",
]
