"""The Wan video autoencoder, from a local folder."""

from pathlib import Path
from typing import Literal, final, get_args

import torch
from diffusers import AutoencoderKLWan
from jaxtyping import Float
from torch import Tensor

from interp_refiner.codec.codec import Codec
from interp_refiner.core import BadValue, choice

Precision = Literal["float32", "bfloat16", "float16"]


@final
class WanVAE(Codec):
    """diffusers' ``AutoencoderKLWan``, frozen; factors and statistics come from its own configuration.

    The autoencoder is causal: latent frame 0 codes one pixel frame, every later one four. ``encode`` returns the
    posterior's mode.

    Args:
        folder: written by diffusers' ``save_pretrained``: the autoencoder's own folder, or a pipeline's, with ``vae/``.
        tiling: decode and encode in overlapping tiles, for less memory at large sizes.
        precision: dtype of the weights; latents and pixels go in and come out in their own.

    Raises:
        BadValue: no such folder, or no configuration in it.
    """

    name = "wan_vae"

    def __init__(self, folder: str, tiling: bool = False, precision: Precision = "float32"):
        choice("precision", precision, get_args(Precision))
        vae = AutoencoderKLWan.from_pretrained(vae_folder(folder), torch_dtype=getattr(torch, precision))
        super().__init__(
            temporal_factor=vae.config.scale_factor_temporal,
            spatial_factor=vae.config.scale_factor_spatial,
            first_frame_alone=True,
            latent_channels=vae.config.z_dim,
            latents_mean=vae.config.latents_mean,
            latents_std=vae.config.latents_std,
        )
        self.vae = vae.eval().requires_grad_(False)
        if tiling:
            self.vae.enable_tiling()

    def train(self, mode: bool = True) -> "WanVAE":
        """Stays in evaluation mode, whatever the module that holds it does."""
        return super().train(False)

    def transform(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c n y x"]:
        latents = self.vae.encode((2 * video - 1).to(self.vae.dtype)).latent_dist.mode()
        return latents.to(video.dtype)

    def inverse(self, latents: Float[Tensor, "b c n y x"]) -> Float[Tensor, "b 3 t h w"]:
        pixels = self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0]
        return (pixels.to(latents.dtype) + 1) / 2


def vae_folder(folder: str) -> Path:
    """The folder that holds the autoencoder's ``config.json``: ``folder`` itself or its ``vae/``."""
    for candidate in (Path(folder), Path(folder) / "vae"):
        if (candidate / "config.json").is_file():
            return candidate
    raise BadValue(
        "folder", folder, "a folder with config.json, or vae/config.json, as diffusers saves AutoencoderKLWan"
    )
