"""Writes and reads a pipeline's folder.

model_index.json          what the model was trained on, and how to build every component
transformer/              diffusers' WanTransformer3DModel, readable by its from_pretrained
refiner.safetensors       the backbone's other weights: keyframe channels, numbers per frame
interpolator.safetensors  weights of a learned interpolator
vae/                      weights of a codec that has some
keyframes/                the keyframe generator's own folder, see :mod:`generator`
pipeline.py               lets diffusers' DiffusionPipeline open the folder
precision/                a component that tells pipeline.py the torch_dtype that diffusers was asked for
README.md                 the model card
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from interp_refiner.core import BadValue, ClipSpec, Freezable, save_tensors, save_weights
from interp_refiner.data.codec import Codec
from interp_refiner.data.text import TextEncoder
from interp_refiner.forward.corruption import Corruption
from interp_refiner.forward.interpolator import Interpolator
from interp_refiner.model.backbone import Backbone
from interp_refiner.model.objective import Objective
from interp_refiner.model.sampler import Sampler
from interp_refiner.storyboard.conditioning.phase1 import Phase1
from interp_refiner.storyboard.saved.card import model_card
from interp_refiner.storyboard.saved.construct import INSIDE, SLOTS, check_storable, construct_components
from interp_refiner.storyboard.saved.generator import (
    GENERATOR,
    generator_index,
    is_generator,
    load_generator,
    save_generator,
)
from interp_refiner.storyboard.saved.weights import (
    TRANSFORMER,
    beside_transformer,
    load_strictly,
    save_transformer,
    write_index,
)
from interp_refiner.training.checkpoint import INDEX, is_exported, read_index, stored_spec

WEIGHTS, INTERPOLATOR = "refiner.safetensors", "interpolator.safetensors"
TEMPLATES = Path(__file__).parents[1] / "diffusers"  # copied into every exported folder
VAE, PRECISION, COMPONENT = "vae", "precision", "component"
OF_DIFFUSERS = {"pipeline.py": "pipeline.py", f"{PRECISION}/{COMPONENT}.py": "precision.py"}

CLASS = "RefinerPipeline"
FPS = 8.0  # pixel frames per second, if the data set declares none
OBJECTIVE = "objective."  # prefix of the objective's own parameters


@dataclass(frozen=True)
class Components:
    """The components of a pipeline."""

    backbone: Backbone
    objective: Objective
    sampler: Sampler
    corruption: Corruption
    codec: Codec
    text: TextEncoder | None = None
    phase1: Phase1 | None = None


@dataclass(frozen=True)
class PipelineConfig:
    """The settings that are stored with the weights.

    Attributes:
        spec: of the clips that the model was trained on, with the statistics of its codec.
        components: for each name a mapping with ``_target_`` (a component of this package) and its arguments, which may
            be such mappings, too; strings that start with ``./`` are paths in the folder.
        trained: origin of the model, for the card.
        evaluation: results of an evaluation, see :func:`card.figures`; None if there was none.
    """

    spec: ClipSpec
    components: dict[str, Any]
    trained: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] | None = None

    @property
    def fps(self) -> float:
        """Pixel frames per second."""
        return self.spec.fps or FPS


def load_components(folder: Path) -> tuple[Components, PipelineConfig]:
    """Reads a folder of :func:`save_components`; raises :class:`BadValue` if there is no pipeline."""
    if not is_exported(folder):
        raise BadValue("checkpoint", folder, f"a folder with {INDEX}, as save_pretrained or the export writes it")
    stored = read_index(folder, "checkpoint")
    if stored.get("_class_name") != CLASS:
        allowed = f"an exported refiner, this is a {stored.get('_class_name')}"
        raise BadValue("checkpoint", folder, allowed + (": keyframes=<it>" if is_generator(folder) else ""))
    stored = read_index(folder, "checkpoint", ["spec", "components", "trained"])
    spec, evaluation = stored_spec(folder, "checkpoint", stored), stored.get("evaluation")
    config = PipelineConfig(spec, stored["components"], stored["trained"], evaluation)
    parts = Components(**construct_components(config.components, config.spec, folder))
    load_strictly("checkpoint", _own(parts), folder / WEIGHTS)
    freeze_all(parts.corruption.interpolator, folder / INTERPOLATOR)
    parts = replace(parts, corruption=parts.corruption.with_codec(parts.codec))
    if GENERATOR in stored:
        parts = replace(parts, phase1=load_generator(folder / GENERATOR).of_clips(spec))
    return parts, config


def save_components(parts: Components, config: PipelineConfig, folder: Path) -> Path:
    """Writes a pipeline's folder; returns it. Raises :class:`BadValue` for a part from outside this package."""
    for name, node in config.components.items():
        check_storable(node, (SLOTS[name],), name)
    folder.mkdir(parents=True, exist_ok=True)
    components = {name: _stored(name, node) for name, node in config.components.items()}
    if save_transformer(parts.backbone, folder / TRANSFORMER):
        components["backbone"]["pretrained"] = INSIDE + TRANSFORMER
    save_tensors(_own(parts), folder / WEIGHTS)
    if learned(parts.corruption.interpolator):
        save_weights(parts.corruption.interpolator, folder / INTERPOLATOR)
    vae = getattr(parts.codec, "vae", None)
    if vae is not None:
        vae.save_pretrained(folder / VAE)
        components["codec"]["folder"] = INSIDE + VAE
    for name, source in OF_DIFFUSERS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((TEMPLATES / source).read_bytes())
    index = {"_class_name": CLASS, PRECISION: [COMPONENT, "Precision"], **asdict(config), "components": components}
    generator = None if parts.phase1 is None else generator_index(parts.phase1)
    if parts.phase1 is not None:
        save_generator(parts.phase1, folder / GENERATOR)
        index[GENERATOR] = INSIDE + GENERATOR
    return write_index(index, model_card(index, generator), folder)


def learned(interpolator: Interpolator) -> list[Freezable]:
    """The learned parts of an interpolator, which may be itself or inside it."""
    return [part for part in interpolator.modules() if isinstance(part, Freezable) and part.state_dict()]


def freeze_all(interpolator: Interpolator, file: Path) -> None:
    """Loads the weights of an interpolator's learned parts, if it has any, and freezes them.

    Raises:
        BadValue: no such file, or the weights of another interpolator.
    """
    if not (parts := learned(interpolator)):
        return
    load_strictly("checkpoint", interpolator.state_dict(), file)
    for part in parts:
        part.hold()


def _stored(name: str, node: Any) -> Any:
    """A component's node for storage: the weights of interpolators are then read from the folder."""
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


def _own(parts: Components) -> dict[str, Tensor]:
    """The weights outside of ``transformer/``: of the backbone, and parameters of the objective."""
    learned = {OBJECTIVE + name: weight for name, weight in parts.objective.named_parameters()}
    return beside_transformer(parts.backbone) | learned
