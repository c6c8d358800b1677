"""A pipeline's folder: what is in it, how it is written and read.

model_index.json          what the model was trained on, and how to build every component
transformer/              diffusers' WanTransformer3DModel, readable by its from_pretrained
refiner.safetensors       the backbone's weights beside it: keyframe channels, numbers per frame
interpolator.safetensors  of a learned interpolator
vae/                      of a codec with weights
README.md                 the model card
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from interp_refiner.core import BadValue, ClipSpec, Freezable, save_tensors, save_weights, state_faults
from interp_refiner.data.codec import Codec
from interp_refiner.data.text import TextEncoder
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.backbone import Backbone
from interp_refiner.model.objective import Objective
from interp_refiner.model.sampler import Sampler
from interp_refiner.storyboard.card import FPS, model_card
from interp_refiner.storyboard.construct import INSIDE, construct_components
from interp_refiner.storyboard.phase1 import Phase1
from interp_refiner.training.checkpoint import INDEX, is_exported

WEIGHTS, INTERPOLATOR = "refiner.safetensors", "interpolator.safetensors"
TRANSFORMER, VAE, CARD = "transformer", "vae", "README.md"

OBJECTIVE = "objective."  # before the names of an objective's own parameters


@dataclass(frozen=True)
class Components:
    """What a pipeline is made of."""

    backbone: Backbone
    objective: Objective
    sampler: Sampler
    corruption: Corruption
    codec: Codec
    text: TextEncoder | None = None
    phase1: Phase1 | None = None


@dataclass(frozen=True)
class PipelineConfig:
    """What is stored beside the weights.

    Attributes:
        spec: of the clips that the model was trained on, with the statistics of its codec.
        components: by name, a mapping with ``_target_`` (a component of this package) and its arguments, which
            may be such mappings again; strings that start with ``./`` are paths in the folder.
        trained: where the model came from, for the card.
        evaluation: what an evaluation found, see :func:`card.figures`; None where there was none.
    """

    spec: ClipSpec
    components: dict[str, Any]
    trained: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] | None = None

    @property
    def fps(self) -> float:
        """Pixel frames a second."""
        return self.spec.fps or FPS


def load_components(folder: Path) -> tuple[Components, PipelineConfig]:
    """Reads what :func:`save_components` wrote; raises :class:`BadValue` where there is no pipeline."""
    if not is_exported(folder):
        raise BadValue("checkpoint", folder, f"a folder with {INDEX}, as save_pretrained or the export writes it")
    stored = json.loads((folder / INDEX).read_text())
    if "spec" not in stored:
        raise BadValue("checkpoint", folder, "an export of this version: an older one wrote it, export the run again")
    spec, evaluation = ClipSpec.from_plain(stored["spec"]), stored.get("evaluation")
    config = PipelineConfig(spec, stored["components"], stored["trained"], evaluation)
    parts = Components(**construct_components(config.components, config.spec, folder))
    _load_weights(parts, folder / WEIGHTS)
    interpolator = parts.corruption.interpolator
    if isinstance(interpolator, Freezable) and interpolator.state_dict():
        interpolator.freeze(str(folder / INTERPOLATOR))
    parts.corruption.interpolator = interpolator.with_codec(parts.codec)
    return parts, config


def save_components(parts: Components, config: PipelineConfig, folder: Path) -> Path:
    """Writes a pipeline's folder; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    components = {name: _stored(name, node) for name, node in config.components.items()}
    transformer = getattr(parts.backbone, "wan", None)
    if isinstance(transformer, WanTransformer3DModel):
        _save_transformer(transformer, folder / TRANSFORMER)
        components["backbone"]["pretrained"] = INSIDE + TRANSFORMER
    save_tensors(_own(parts), folder / WEIGHTS)
    interpolator = parts.corruption.interpolator
    if isinstance(interpolator, Freezable) and interpolator.state_dict():
        save_weights(interpolator, folder / INTERPOLATOR)
    vae = getattr(parts.codec, "vae", None)
    if vae is not None:
        vae.save_pretrained(folder / VAE)
        components["codec"]["folder"] = INSIDE + VAE
    index = {"_class_name": "RefinerPipeline", **asdict(config), "components": components}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    (folder / CARD).write_text(model_card(index))
    mode = (folder / INDEX).stat().st_mode & 0o777
    for file in folder.rglob("*.safetensors"):  # diffusers leaves them at 0600
        file.chmod(mode)
    return folder


def _stored(name: str, node: Any) -> Any:
    """A component's node as it is stored: weights of interpolators come from the folder, not from where they were."""
    if not isinstance(node, Mapping):
        return node
    node = dict(node)
    if name == "corruption":
        node["interpolator"] = _without_checkpoints(node["interpolator"])
    return node


def _without_checkpoints(node: Any) -> Any:
    if not isinstance(node, Mapping):
        return node
    return {name: None if name == "checkpoint" else _without_checkpoints(value) for name, value in node.items()}


def _plain(transformer: WanTransformer3DModel) -> WanTransformer3DModel:
    """A transformer of the same size as diffusers builds it, without weights."""
    with torch.device("meta"):
        return WanTransformer3DModel.from_config(transformer.config)


def _save_transformer(transformer: WanTransformer3DModel, folder: Path) -> None:
    """Writes exactly the weights that diffusers' own class has, whatever was added to its blocks."""
    plain, weights = _plain(transformer), transformer.state_dict()
    plain.load_state_dict({name: weights[name].detach() for name in plain.state_dict()}, assign=True)
    plain.save_pretrained(folder)


def _own(parts: Components) -> dict[str, Tensor]:
    """The weights that do not lie in ``transformer/``: of the backbone, and what the objective has learned."""
    transformer = getattr(parts.backbone, "wan", None)
    plain = _plain(transformer).state_dict() if isinstance(transformer, WanTransformer3DModel) else {}
    there = {f"wan.{name}" for name in plain}
    backbone = {name: weight for name, weight in parts.backbone.state_dict().items() if name not in there}
    return backbone | {OBJECTIVE + name: weight for name, weight in parts.objective.named_parameters()}


def _load_weights(parts: Components, file: Path) -> None:
    """Strict: a weight that came neither with the transformer nor in the file would be left at random.

    Raises:
        BadValue: no such file, a damaged one, or weights of other names or sizes.
    """
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise BadValue("checkpoint", file, f"a whole .safetensors file: {error}") from None
    own = _own(parts)
    if faults := state_faults(own, stored):
        raise BadValue("checkpoint", file, f"the {len(own)} weights beside {TRANSFORMER}/: {faults}")
    with torch.no_grad():
        for name, weight in own.items():  # a module's state shares its memory
            weight.copy_(stored[name])
