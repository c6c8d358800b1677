"""The Wan video autoencoder, frozen."""

from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, final, get_args

import torch
from diffusers import AutoencoderKLWan
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import (
    BadValue,
    ClipSpec,
    check_folder,
    check_not_original,
    choice,
    fetch,
    one_fault,
    unreported,
)
from interp_refiner.data.codec.codec import Codec
from interp_refiner.data.codec.still import Still
from interp_refiner.data.codec.wan_vae_original import load_original_vae

Precision = Literal["float32", "bfloat16", "float16"]


@final
class WanVAE(Codec):
    """diffusers' ``AutoencoderKLWan``, frozen; factors and statistics come from its own configuration.

    The autoencoder is causal: latent frame 0 codes one pixel frame, every later one four. ``encode`` returns the
    posterior's mode.

    Args:
        folder: a folder by diffusers' ``save_pretrained`` (of the autoencoder, or of a pipeline with ``vae/``),
            Wan2.1's own ``.safetensors`` file, or one of these on the hub, see :func:`fetch`.
        tiling: decode and encode in overlapping tiles, to save memory at large sizes.
        slicing: decode and encode the clips of a batch one by one.
        precision: dtype of the weights; outputs keep the dtype of the inputs.
        still: how single pictures are encoded, see :class:`Codec`.
        spec: of the clips; its declared statistics replace the configuration's. None when a data set is made.

    Raises:
        BadValue: no such folder, no configuration in it, weights that are missing, damaged or of another model, or
            clips made by another codec.
    """

    name = "wan_vae"

    def __init__(
        self,
        folder: str,
        tiling: bool = False,
        precision: Precision = "float32",
        still: Still | None = None,
        spec: ClipSpec | None = None,
        slicing: bool = False,
    ):
        choice("precision", precision, get_args(Precision))
        root = fetch("folder", folder, ["vae"])
        vae, self.weights = _load(folder, root, getattr(torch, precision))
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
        if tiling:
            self.vae.enable_tiling()
        if slicing:
            self.vae.enable_slicing()
        if spec is not None:
            self.adopt(spec)

    def describe(self) -> dict[str, Any]:
        """As for any codec, with a digest of the weights."""
        return {**super().describe(), "weights": self.weights}

    def train(self, mode: bool = True) -> "WanVAE":
        """Does nothing: the autoencoder stays in evaluation mode."""
        return super().train(False)

    def transform(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c n y x"]:
        latents = self.vae.encode((2 * video - 1).to(self.vae.dtype)).latent_dist.mode()
        return latents.to(video.dtype)

    def inverse(self, latents: Float[Tensor, "b c n y x"]) -> Float[Tensor, "b 3 t h w"]:
        pixels = self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0]
        return (pixels.to(latents.dtype) + 1) / 2


def _load(folder: str, root: Path, dtype: torch.dtype) -> tuple[AutoencoderKLWan, str]:
    """The autoencoder, and a digest of its weights."""
    allowed = "a complete AutoencoderKLWan, as diffusers saves it"
    with one_fault("folder", folder, allowed), unreported("diffusers"):
        if root.is_file():
            return load_original_vae("folder", folder, root).to(dtype), weights_digest(root)
    check_not_original("folder", folder, root)
    root = vae_folder(folder, root)
    check_not_original("folder", folder, root)
    with one_fault("folder", folder, allowed), unreported("diffusers"):
        vae, told = AutoencoderKLWan.from_pretrained(
            root, torch_dtype=dtype, local_files_only=True, output_loading_info=True
        )
    check_folder("folder", folder, allowed, root, told, vae)
    return vae, weights_digest(root)


def weights_digest(path: Path) -> str:
    """A hash of the configuration, and of the size and first MiB of every weights file."""
    config = path / "config.json"
    digest = blake2b(config.read_bytes() if config.is_file() else b"", digest_size=6)
    for file in [path] if path.is_file() else sorted(path.glob("*.safetensors")):
        with open(file, "rb") as weights:
            digest.update(f"{file.name} {file.stat().st_size}".encode() + weights.read(2**20))
    return digest.hexdigest()


def vae_folder(folder: str, root: Path) -> Path:
    """The folder that holds the autoencoder's ``config.json``: ``root`` itself or its ``vae/``."""
    for candidate in (root, root / "vae"):
        if (candidate / "config.json").is_file():
            return candidate
    raise BadValue(
        "folder",
        folder,
        "a folder with config.json, or vae/config.json, as diffusers saves AutoencoderKLWan, or Wan2.1's own file",
    )
