"""Loads Wan's own transformer checkpoints (one or several ``.safetensors``), whose names differ from diffusers'."""

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from diffusers import WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import load_file
from torch import Tensor

from interp_refiner.core import BadValue, original, state_faults, stored_kinds

PREFIX = "model.diffusion_model."  # prefix of names in repackaged files (ComfyUI)


def is_original(path: Path) -> bool:
    """Whether a file, or the files of a folder, have the tensor names of Wan's own transformer."""
    return original(stored_kinds(path)) == "transformer"


def load_original(name: str, value: str, path: Path, head_dim: int, **shape: int) -> WanTransformer3DModel:
    """A transformer from Wan's own files in float32, converted by diffusers' own conversion.

    The sizes of the model come from the shapes of the tensors. The number of heads does not follow from them: it comes
    from ``config.json`` beside the files, or from ``head_dim``, which is 128 in every Wan model.

    Args:
        name, value: name and value of the setting, for errors.
        path: a file, or a folder with one file or all parts of one.
        head_dim: dimension of an attention head, used if there is no ``config.json``.
        shape: ``in_channels``, ``out_channels`` and ``text_dim`` that the data needs.

    Raises:
        BadValue: parts or tensors are missing, left over, of another size, or not stored as plain floats.
    """
    weights = _read(name, value, path)
    allowed = "the whole transformer of a text-to-video Wan"
    try:
        size = _size(weights)
    except KeyError as error:
        raise BadValue(name, value, f"{allowed}: {error.args[0]} is missing") from None
    if size["dim"] % (heads := _heads(path) or size["dim"] // head_dim or 1):
        raise BadValue("attention_head_dim", head_dim, f"a divisor of {size['dim']}, the width of {value}")
    dim = size.pop("dim")
    check_shape(name, value, size, shape)
    with init_empty_weights(include_buffers=False):
        wan = WanTransformer3DModel(num_attention_heads=heads, attention_head_dim=dim // heads, **size)
    converted = convert_wan_transformer_to_diffusers(dict(weights))
    if faults := state_faults(wan.state_dict(), converted):
        raise BadValue(name, value, f"{allowed}: {faults}")
    wan.load_state_dict({key: weight.float() for key, weight in converted.items()}, assign=True)
    return wan.requires_grad_(True).eval()


def check_shape(name: str, value: str, found: Mapping[str, Any], needed: Mapping[str, int]) -> None:
    """Raises :class:`BadValue` for a transformer of other latents or another text encoder."""
    for part, size in needed.items():
        if found[part] != size:
            raise BadValue(name, value, f"{part}={size}, which the data has; this model has {found[part]}")


def _read(name: str, value: str, path: Path) -> dict[str, Tensor]:
    """Every tensor of the file or files, without the prefix."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    for index in () if path.is_file() else path.glob("*.safetensors.index.json"):
        parts = set(json.loads(index.read_text())["weight_map"].values())
        if missing := sorted(parts - {file.name for file in files}):
            raise BadValue(name, value, f"all {len(parts)} parts that {index.name} names: {missing[0]} is missing")
        files = [file for file in files if file.name in parts]
    weights: dict[str, Tensor] = {}
    for file in files:
        part = {key.removeprefix(PREFIX): tensor for key, tensor in load_file(file).items()}
        if twice := sorted(part.keys() & weights.keys()):
            raise BadValue(name, value, f"one model: {file.name} repeats {twice[0]}; name a single file")
        weights |= part
    if strange := [key for key, tensor in weights.items() if not tensor.is_floating_point() or tensor.itemsize == 1]:
        kind = str(weights[strange[0]].dtype).removeprefix("torch.")
        raise BadValue(name, value, f"weights in float32, float16 or bfloat16: {strange[0]} is stored as {kind}")
    return weights


def _size(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of ``WanTransformer3DModel`` that follow from the shapes, and its width."""
    patch = weights["patch_embedding.weight"].shape
    blocks = {int(key.split(".")[1]) for key in weights if key.startswith("blocks.")}
    return {
        "dim": patch[0],
        "in_channels": patch[1],
        "patch_size": tuple(patch[2:]),
        "out_channels": len(weights["head.head.weight"]) // prod(patch[2:]),
        "text_dim": weights["text_embedding.0.weight"].shape[1],
        "freq_dim": weights["time_embedding.0.weight"].shape[1],
        "ffn_dim": len(weights["blocks.0.ffn.0.weight"]),
        "num_layers": max(blocks) + 1,
    }


def _heads(path: Path) -> int | None:
    """The number of heads in Wan's ``config.json``; None if there is none."""
    config = (path.parent if path.is_file() else path) / "config.json"
    return json.loads(config.read_text()).get("num_heads") if config.is_file() else None
