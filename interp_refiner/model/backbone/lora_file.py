"""Reads and writes LoRA files of Wan models in the common namings: diffusers, peft, ComfyUI and kohya.

diffusers  transformer.blocks.0.attn1.to_q.lora_A.weight              scale: lora_adapter_metadata, else 1
peft       base_model.model.blocks.0.attn1.to_q.lora_A.weight         scale: of adapter_config.json, else 1
ComfyUI    diffusion_model.blocks.0.self_attn.q.lora_down.weight      scale: .alpha / rank, else 1
kohya      lora_unet_blocks_0_self_attn_q.lora_down.weight            scale: .alpha / rank, else 1
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from interp_refiner.core import BadValue, fetch, one_fault, state_faults

Naming = Literal["diffusers", "comfyui", "kohya"]
FILES = "pytorch_lora_weights.safetensors", "adapter_model.safetensors"  # diffusers' and peft's names in a folder
CONFIG = "adapter_config.json"  # peft's, beside its weights
METADATA = "lora_adapter_metadata"
WAN = {  # name parts in diffusers' transformer: in Wan's own
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "proj_out": "head.head",
    "attn1.to_out.0": "self_attn.o",
    "attn2.to_out.0": "cross_attn.o",
    "attn1.to_": "self_attn.",
    "attn2.to_": "cross_attn.",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}
DOWN, UP, ALPHA = "lora_A.weight", "lora_B.weight", "alpha"
ENDINGS = {
    **{f".{down}": DOWN for down in (DOWN, "lora_A.default.weight", "lora_down.weight")},
    **{f".{up}": UP for up in (UP, "lora_B.default.weight", "lora_up.weight")},
    f".{ALPHA}": ALPHA,
}


@dataclass(frozen=True)
class Adapter:
    """The adapter ``scale B A`` of a matrix ``[o, i]``.

    Attributes:
        down: A ``[r, i]``.
        up: B ``[o, r]``.
        scale: ``alpha / r``.
    """

    down: Tensor
    up: Tensor
    scale: float = 1.0


def wan_name(layer: str) -> str:
    """Wan's own name for a layer of diffusers' transformer."""
    for name, own in WAN.items():
        layer = layer.replace(name, own)
    return layer


NAMINGS: dict[Naming, Callable[[str], str]] = {
    "diffusers": lambda layer: f"transformer.{layer}",
    "comfyui": lambda layer: f"diffusion_model.{wan_name(layer)}",
    "kohya": lambda layer: f"lora_unet_{wan_name(layer).replace('.', '_')}",
}
PEFT: tuple[Callable[[str], str], ...] = (str, lambda layer: f"base_model.model.{layer}")


def read_adapters(name: str, value: str, transformer: nn.Module) -> dict[str, Adapter]:
    """The adapters of a LoRA file, by layer of the transformer.

    Args:
        name, value: name and value of the setting; the value is a file, a folder that diffusers or peft saved, or one
            of these on the hub.
        transformer: diffusers' ``WanTransformer3DModel``; it is not changed.

    Raises:
        BadValue: no such file; no adapter for this transformer; tensors that are missing, of another model, of
            another size or not finite; or adapters of several ranks.
    """
    file = fetch(name, value, files=[*FILES, CONFIG], beside=[CONFIG])
    if file.is_dir():
        file = next((file / own for own in FILES if (file / own).is_file()), file / FILES[0])
    allowed = "a LoRA of this Wan, in the naming of diffusers, peft, ComfyUI or kohya"
    with one_fault(name, value, f"a .safetensors file, {allowed}"):
        stored = load_file(file)
        with safe_open(file, "pt") as content:
            scale = _declared_scale(content.metadata() or {}, file.with_name(CONFIG))
    layers = {key: layer for key, layer in transformer.named_modules() if isinstance(layer, nn.Linear)}
    found, foreign = _by_layer(stored, layers)
    if not found:
        raise BadValue(name, value, f"{allowed}: nothing in it is for one of this model's layers")
    downs = [parts[DOWN] for parts in found.values() if DOWN in parts]
    rank = min((len(down) for down in downs), default=1)
    own = _wanted(found, layers, rank)
    there = {f"{layer}.{part}": tensor for layer, parts in found.items() for part, tensor in parts.items()}
    if faults := state_faults(own, there | foreign):
        raise BadValue(name, value, f"{allowed}, of one rank: {faults}")
    return {
        layer: Adapter(parts[DOWN].float(), parts[UP].float(), float(parts[ALPHA]) / rank if ALPHA in parts else scale)
        for layer, parts in found.items()
    }


def write_adapters(adapters: Mapping[str, Adapter], file: Path, naming: Naming) -> Path:
    """Writes a LoRA file; returns it.

    Args:
        adapters: by layer of diffusers' transformer.
        file: the file to write.
        naming: naming of the tensors. Scales are written as ``alpha``; for diffusers they are multiplied into B.
    """
    named, tensors = NAMINGS[naming], {}
    a, b = (DOWN, UP) if naming == "diffusers" else ("lora_down.weight", "lora_up.weight")
    for layer, adapter in adapters.items():
        folded = adapter.scale if naming == "diffusers" else 1.0
        tensors[f"{named(layer)}.{a}"] = adapter.down.contiguous()
        tensors[f"{named(layer)}.{b}"] = (folded * adapter.up).contiguous()
        if naming != "diffusers":
            tensors[f"{named(layer)}.{ALPHA}"] = torch.tensor(adapter.scale * len(adapter.down))
    save_file(tensors, file, metadata={"format": "pt"})
    return file


def _by_layer(
    stored: Mapping[str, Tensor], layers: Mapping[str, nn.Module]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """The tensors of a file by layer, and its remaining tensors."""
    aliases = {named(layer): layer for layer in layers for named in (*NAMINGS.values(), *PEFT)}
    found: dict[str, dict[str, Tensor]] = {}
    foreign: dict[str, Tensor] = {}
    for key, tensor in stored.items():
        ending = next((ending for ending in ENDINGS if key.endswith(ending)), None)
        layer = aliases.get(key.removesuffix(ending)) if ending else None
        if ending is None or layer is None:
            foreign[key] = tensor
        else:
            found.setdefault(layer, {})[ENDINGS[ending]] = tensor
    return found, foreign


def _wanted(found: Mapping[str, Mapping[str, Tensor]], layers: Mapping[str, nn.Module], rank: int) -> dict[str, Tensor]:
    """The tensors that a file with adapters for these layers must have, as tensors without values."""
    wanted = {}
    for name, parts in found.items():
        rows, columns = layers[name].weight.shape
        wanted[f"{name}.{DOWN}"] = torch.empty(rank, columns, device="meta")
        wanted[f"{name}.{UP}"] = torch.empty(rows, rank, device="meta")
        if ALPHA in parts:
            wanted[f"{name}.{ALPHA}"] = torch.empty(parts[ALPHA].shape, device="meta")
    return wanted


def _declared_scale(metadata: Mapping[str, str], config: Path) -> float:
    """``alpha / r`` (rsLoRA: ``alpha / sqrt(r)``) of all layers, from diffusers' metadata or peft's config; else 1."""
    stored = json.loads(metadata.get(METADATA, "{}"))
    if not stored and config.is_file():
        return _peft_scale(config)
    alpha, rank = (next((v for k, v in stored.items() if k.endswith(name)), None) for name in ("lora_alpha", ".r"))
    return alpha / rank if alpha is not None and rank else 1.0


def _peft_scale(file: Path) -> float:
    """``alpha / r``, or ``alpha / sqrt(r)``, of peft's config.

    Raises:
        BadValue: a config that cannot be read, or one with scales of single layers.
    """
    allowed = "peft's config with r and lora_alpha, the same for all layers"
    with one_fault("weights", str(file), allowed):
        stored = json.loads(file.read_text())
        rank, scale = stored["r"], float(stored["lora_alpha"])
    if own := [name for name in ("alpha_pattern", "rank_pattern") if stored.get(name)]:
        raise BadValue("weights", str(file), f"{allowed}: it has {own[0]}={stored[own[0]]}")
    return scale / (rank**0.5 if stored.get("use_rslora") else rank)
