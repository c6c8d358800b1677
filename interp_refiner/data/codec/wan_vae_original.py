"""Loads Wan2.1's own autoencoder file (``.safetensors``), whose tensor names differ from diffusers'."""

from collections.abc import Mapping
from pathlib import Path

from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from safetensors.torch import load_file
from torch import Tensor

from interp_refiner.core import BadValue, original, state_faults

WAN22 = "encoder.downsamples.0.downsamples.0.residual.0.gamma"  # Wan2.2 nests its blocks once more


def load_original_vae(name: str, value: str, file: Path) -> AutoencoderKLWan:
    """The autoencoder in float32, converted by diffusers' own conversion, with Wan2.1's statistics.

    Raises:
        BadValue: another model, Wan2.2's autoencoder, or tensors that are missing, left over or of another size.
    """
    weights = load_file(file)
    if WAN22 in weights:
        raise BadValue(name, value, "Wan2.1's autoencoder; Wan2.2's is in Wan-AI/Wan2.2-TI2V-5B-Diffusers")
    if original(weights) != "VAE":
        raise BadValue(name, value, "Wan's own autoencoder, or a folder as diffusers saves it")
    with init_empty_weights(include_buffers=False):
        vae = AutoencoderKLWan(**_size(weights))
    converted = convert_wan_vae_to_diffusers(weights)
    if faults := state_faults(vae.state_dict(), converted):
        raise BadValue(name, value, f"the complete autoencoder of Wan2.1: {faults}")
    vae.load_state_dict({key: weight.float() for key, weight in converted.items()}, assign=True)
    return vae


def _size(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The width of the model; all other sizes are the same in every Wan2.1."""
    return {"base_dim": len(weights["encoder.conv1.weight"])} if "encoder.conv1.weight" in weights else {}
