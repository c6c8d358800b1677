"""Loads pretrained Wan transformers: diffusers' folders, Wan's own files, or models of the hub."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel

from interp_refiner.core import BadValue, check_folder, check_not_original, fetch, one_fault, unreported
from interp_refiner.model.backbone.original import check_shape, is_original, load_original

HEAD_DIM = 128  # of every published Wan
TRANSFORMER, SECOND = "transformer", "transformer_2"
EXPERTS = ("high_noise", "low_noise")  # in the names of files and folders of Wan2.2's pair of experts
ALLOWED = (
    "a folder saved by diffusers' {kind} (with a config.json), Wan's own .safetensors, or either of them on the hub"
)


def load_pretrained(source: str, head_dim: int = HEAD_DIM, **shape: int) -> WanTransformer3DModel:
    """Loads a transformer in float32.

    Args:
        source: a model's folder, a pipeline's folder with ``transformer/``, Wan's own file or folder, or one of these
            on the hub, see :func:`fetch`.
        head_dim: dimension of an attention head, see :func:`load_original`.
        shape: ``in_channels``, ``out_channels`` and ``text_dim`` that the data needs.

    Raises:
        BadValue: no such folder or file; a damaged, incomplete or other model; a model of another shape; or Wan2.2
            A14B with its pair of experts.
    """
    _refuse_experts(source)
    root = fetch("pretrained", source, [TRANSFORMER])
    root = root / TRANSFORMER if (root / TRANSFORMER).is_dir() else root
    if not (own := is_original(root)):
        check_not_original("pretrained", source, root)
    if own or root.is_file():
        with one_fault("pretrained", source, "Wan's own transformer"):
            return load_original("pretrained", source, root, head_dim, **shape)
    return load_saved(WanTransformer3DModel, source, root, shape)


def load_saved(kind: type[Any], source: str, root: Path, shape: Mapping[str, int]) -> Any:
    """A transformer of one of diffusers' classes in float32.

    Args:
        kind: the class.
        source: value of the setting ``pretrained``, for errors.
        root: the model's own folder, or a pipeline's.
        shape: the sizes that the data needs, by their names in the model's configuration.

    Raises:
        BadValue: no such folder; a damaged, incomplete or other model; or a model of another shape.
    """
    root = root / TRANSFORMER if (root / TRANSFORMER).is_dir() else root
    if not (root / "config.json").is_file():
        raise BadValue("pretrained", source, ALLOWED.format(kind=kind.__name__))
    allowed = f"a complete {kind.__name__}, as diffusers saves it"
    with one_fault("pretrained", source, allowed), unreported("diffusers"):
        model, info = kind.from_pretrained(root, torch_dtype=torch.float32, output_loading_info=True)
    check_folder("pretrained", source, allowed, root, info, model)
    check_shape("pretrained", source, model.config, shape)
    return model


def second_of(root: Path) -> str | None:
    """The class of the second transformer that a pipeline's ``model_index.json`` names; None for none."""
    index = root / "model_index.json"
    second = json.loads(index.read_text()).get(SECOND) if index.is_file() else None
    return second[0] if second else None


def _refuse_experts(source: str) -> None:
    """Refuses Wan2.2 A14B, which has two networks for different noise levels, before its weights are downloaded."""
    if any(name in str(source).lower() for name in EXPERTS) or _is_pair(source):
        allowed = (
            "a model with one transformer, such as Wan2.1 or Wan2.2-TI2V-5B; this is Wan2.2-A14B, a pair of experts"
        )
        raise BadValue("pretrained", source, allowed)


def _is_pair(source: str) -> bool:
    """Whether a pipeline's folders or index show two transformers; from the hub, only configurations are downloaded."""
    root = fetch("pretrained", source, files=[f"{name}_model/config.json" for name in EXPERTS])
    root = root.parent if root.name in (TRANSFORMER, SECOND) else root
    with one_fault("pretrained", source, "a pipeline, as diffusers saves it"):
        second = second_of(root)
    return second is not None or any((root / name).is_dir() for name in (SECOND, *(f"{e}_model" for e in EXPERTS)))
