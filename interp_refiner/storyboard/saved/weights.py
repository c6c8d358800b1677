"""Weights in a saved folder: a transformer in diffusers' format, and the other weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from interp_refiner.core import BadValue, state_faults
from interp_refiner.model.backbone import Backbone
from interp_refiner.training.checkpoint import INDEX

TRANSFORMER, CARD = "transformer", "README.md"


def save_transformer(backbone: Backbone, folder: Path) -> bool:
    """Writes the transformer as diffusers' own class, without the layers that this project adds to its blocks.

    Returns:
        Whether the backbone has such a transformer.
    """
    if backbone.transformer is None:
        return False
    _, transformer = backbone.transformer
    plain, weights = _plain(transformer), transformer.state_dict()
    plain.load_state_dict({name: weights[name].detach() for name in plain.state_dict()}, assign=True)
    plain.save_pretrained(folder)
    return True


def beside_transformer(backbone: Backbone) -> dict[str, Tensor]:
    """The weights of a backbone that :func:`save_transformer` does not write."""
    there = set()
    if backbone.transformer is not None:
        name, transformer = backbone.transformer
        there = {f"{name}.{key}" for key in _plain(transformer).state_dict()}
    return {name: weight for name, weight in backbone.state_dict().items() if name not in there}


def load_strictly(name: str, own: Mapping[str, Tensor], file: Path) -> None:
    """Fills tensors from a file that must have exactly these names, so that none keeps random values.

    Args:
        name: name of the folder's setting, for the error.
        own: tensors by name, which share the module's memory.
        file: a ``.safetensors`` file with exactly these tensors.

    Raises:
        BadValue: no such file, a damaged one, weights of other names or sizes, or weights that are not finite.
    """
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise BadValue(name, file, f"a complete .safetensors file: {error}") from None
    if faults := state_faults(own, stored):
        raise BadValue(name, file, f"{len(own)} weights of this model: {faults}")
    with torch.no_grad():
        for key, weight in own.items():
            weight.copy_(stored[key])


def write_index(index: Mapping[str, Any], card: str, folder: Path) -> Path:
    """Writes index and card, and gives all weights the default permissions, because diffusers leaves them at 0600."""
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    (folder / CARD).write_text(card)
    mode = (folder / INDEX).stat().st_mode & 0o777
    for file in folder.rglob("*.safetensors"):
        file.chmod(mode)
    return folder


def store_as(dtype: str, folder: Path) -> None:
    """Rounds every floating-point weight of a saved folder to ``dtype``, given by its name in torch."""
    kind = getattr(torch, dtype)
    for file in folder.rglob("*.safetensors"):
        mode = file.stat().st_mode
        weights = {name: w.to(kind) if w.is_floating_point() else w for name, w in load_file(file).items()}
        save_file(weights, file, metadata={"format": "pt"})
        file.chmod(mode)


def _plain(transformer: Any) -> Any:
    """diffusers' own transformer of the same size, on the meta device."""
    with torch.device("meta"):
        return type(transformer).from_config(transformer.config)
