"""The Wan video autoencoder, from a local folder."""

from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, final, get_args

import torch
from diffusers import AutoencoderKLWan
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, ClipSpec, check_folder, check_not_original, choice, one_fault, unreported
from interp_refiner.data.codec.codec import Codec
from interp_refiner.data.codec.still import Still

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
        still: how single pictures are encoded, see :class:`Codec`.
        spec: of the clips, whose declared statistics replace the configuration's; None where a data set is made.

    Raises:
        BadValue: no such folder, no configuration in it, weights that are missing, damaged or another model's, or
            another codec made the clips.
    """

    name = "wan_vae"

    def __init__(
        self,
        folder: str,
        tiling: bool = False,
        precision: Precision = "float32",
        still: Still | None = None,
        spec: ClipSpec | None = None,
    ):
        choice("precision", precision, get_args(Precision))
        check_not_original("folder", folder, Path(folder).expanduser())
        root = vae_folder(folder)
        check_not_original("folder", folder, root)
        allowed = "a whole AutoencoderKLWan, as diffusers saves it"
        with one_fault("folder", folder, allowed), unreported("diffusers"):
            vae, told = AutoencoderKLWan.from_pretrained(
                root, torch_dtype=getattr(torch, precision), local_files_only=True, output_loading_info=True
            )
        check_folder("folder", folder, allowed, root, told)
        super().__init__(
            temporal_factor=vae.config.scale_factor_temporal,
            spatial_factor=vae.config.scale_factor_spatial,
            first_frame_alone=True,
            latent_channels=vae.config.z_dim,
            latents_mean=vae.config.latents_mean,
            latents_std=vae.config.latents_std,
            still=still,
        )
        self.vae = vae.eval().requires_grad_(False)
        self.weights = weights_digest(root)
        if tiling:
            self.vae.enable_tiling()
        if spec is not None:
            self.adopt(spec)

    def describe(self) -> dict[str, Any]:
        """As for any codec, and which weights these are."""
        return {**super().describe(), "weights": self.weights}

    def train(self, mode: bool = True) -> "WanVAE":
        """Stays in evaluation mode, whatever the module that holds it does."""
        return super().train(False)

    def transform(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c n y x"]:
        latents = self.vae.encode((2 * video - 1).to(self.vae.dtype)).latent_dist.mode()
        return latents.to(video.dtype)

    def inverse(self, latents: Float[Tensor, "b c n y x"]) -> Float[Tensor, "b 3 t h w"]:
        pixels = self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0]
        return (pixels.to(latents.dtype) + 1) / 2


def weights_digest(folder: Path) -> str:
    """Tells autoencoders apart: of the configuration, and of the size and the first MiB of every file of weights."""
    digest = blake2b((folder / "config.json").read_bytes(), digest_size=6)
    for file in sorted(folder.glob("*.safetensors")):
        with open(file, "rb") as weights:
            digest.update(f"{file.name} {file.stat().st_size}".encode() + weights.read(2**20))
    return digest.hexdigest()


def vae_folder(folder: str) -> Path:
    """The folder that holds the autoencoder's ``config.json``: ``folder`` itself or its ``vae/``."""
    root = Path(folder).expanduser()
    for candidate in (root, root / "vae"):
        if (candidate / "config.json").is_file():
            return candidate
    raise BadValue(
        "folder", folder, "a folder with config.json, or vae/config.json, as diffusers saves AutoencoderKLWan"
    )
