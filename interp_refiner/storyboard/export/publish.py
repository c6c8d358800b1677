"""Prepares an exported folder for publication: licence, base model, LoRA file, upload to the hub."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from huggingface_hub import HfApi

from interp_refiner.core import BadValue, refused
from interp_refiner.model.backbone import Adapter, Backbone, Naming, write_adapters
from interp_refiner.storyboard.conditioning.phase1 import Phase1
from interp_refiner.storyboard.pipeline.pipeline import RefinerPipeline

LORA_FILES: dict[Naming, str] = {
    "diffusers": "pytorch_lora_weights.safetensors",  # the name that diffusers' load_lora_weights expects
    "comfyui": "lora_comfyui.safetensors",
    "kohya": "lora_kohya.safetensors",
}


def with_terms(made: RefinerPipeline | Phase1, terms: dict[str, str | None]) -> RefinerPipeline | Phase1:
    """Sets ``license`` and ``base_model`` for the model card; None keeps the current value."""
    told = {name: value for name, value in terms.items() if value is not None}
    if isinstance(made, Phase1):
        return replace(made, trained={**made.trained, **told})
    made.config = replace(made.config, trained={**made.config.trained, **told})
    return made


def adapters_of(made: RefinerPipeline | Phase1, naming: Naming) -> Mapping[str, Adapter]:
    """The adapters that were merged into the transformer.

    Raises:
        BadValue: there were none.
    """
    network = getattr(made.source, "network", None) if isinstance(made, Phase1) else made.backbone
    if not isinstance(network, Backbone) or not network.adapters:
        raise BadValue("lora", naming, "null: this run was trained without adapters (backbone.lora.rank)")
    return network.adapters


def save_lora(adapters: Mapping[str, Adapter], folder: Path, naming: Naming) -> Path:
    """Writes a LoRA file into an exported folder; returns it.

    The layers that the refiner adds to the transformer are not in it, but in ``refiner.safetensors``.
    """
    return write_adapters(adapters, folder / LORA_FILES[naming], naming)


def reserve(repo: str, private: bool) -> None:
    """Creates the model on the hub, unless it exists; so a token without write access is detected before the work."""
    with refused("push", repo, "owner/name, a model of the hub that HF_TOKEN may write to"):
        HfApi().create_repo(repo, private=private, exist_ok=True)


def push(folder: Path, repo: str) -> str:
    """Uploads a folder to the hub; returns its URL."""
    with refused("push", repo, "owner/name, a model of the hub that HF_TOKEN may write to"):
        return (
            HfApi().upload_folder(repo_id=repo, folder_path=folder, commit_message="interp_refiner export").commit_url
        )
