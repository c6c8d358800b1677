"""Writes and reads a generator's folder, alone or as ``keyframes/`` in a pipeline's.

model_index.json          what the generator was trained on, and how to build network, flow and sampler
transformer/              diffusers' WanTransformer3DModel, readable by its from_pretrained
generator.safetensors     other weights of the network, and the statistics measured by the flow
scorer.safetensors        weights of the scorer that chooses among its samples, if they are not in the package
README.md                 the model card
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from interp_refiner.core import BadValue, save_tensors
from interp_refiner.data.world.scorer import SHIPPED, CaptionScorer, save_reader
from interp_refiner.model.keyframes import GeneratedKeyframes
from interp_refiner.storyboard.conditioning.phase1 import Phase1
from interp_refiner.storyboard.saved.card import generator_card
from interp_refiner.storyboard.saved.construct import INSIDE, OF_GENERATOR, check_storable, construct_generator
from interp_refiner.storyboard.saved.weights import (
    TRANSFORMER,
    beside_transformer,
    load_strictly,
    save_transformer,
    write_index,
)
from interp_refiner.training.checkpoint import INDEX, is_exported, read_index, stored_spec

CLASS, GENERATOR, WEIGHTS = "KeyframeGenerator", "keyframes", "generator.safetensors"
SCORER = "scorer.safetensors"


def generator_folder(folder: Path) -> Path:
    """The generator's folder: the exported folder itself, or ``keyframes/`` inside a pipeline's folder.

    Raises:
        BadValue: a refiner without a generator.
    """
    for place in (folder, folder / GENERATOR):
        if is_generator(place):
            return place
    raise BadValue("keyframes", folder, "a keyframe generator: this exported refiner has none")


def is_generator(folder: Path) -> bool:
    """Whether :func:`save_generator` wrote this folder."""
    return is_exported(folder) and read_index(folder, "keyframes").get("_class_name") == CLASS


def generator_index(phase1: Phase1) -> dict[str, Any]:
    """The content of ``model_index.json``."""
    plain = {"spec": asdict(phase1.spec), "components": dict(phase1.components), "count": phase1.count}
    return {"_class_name": CLASS, **plain, "trained": dict(phase1.trained)}


def save_generator(phase1: Phase1, folder: Path) -> Path:
    """Writes a generator's folder; returns it.

    Raises:
        BadValue: a source that was not trained by this project, or a part from outside it.
    """
    source = phase1.source
    if not isinstance(source, GeneratedKeyframes):
        raise BadValue("keyframe_source", repr(source), "a trained generator (keyframes=<run>): this one is not stored")
    index = generator_index(phase1)
    for name, node in index["components"].items():
        if name != "choice":
            check_storable(node, (OF_GENERATOR[name],), name)
    folder.mkdir(parents=True, exist_ok=True)
    if save_transformer(source.network, folder / TRANSFORMER):
        index["components"]["network"] = {**index["components"]["network"], "pretrained": INSIDE + TRANSFORMER}
    save_tensors(_own(source), folder / WEIGHTS)
    if "choice" in index["components"]:
        index["components"]["choice"] = _choice(phase1, folder)
    return write_index(index, generator_card(index), folder)


def load_generator(folder: Path) -> Phase1:
    """Loads the generator of a folder (:func:`generator_folder`); raises :class:`BadValue` if there is none."""
    folder = generator_folder(folder)
    stored = read_index(folder, "keyframes", ["spec", "components", "trained"])
    spec = stored_spec(folder, "keyframes", stored)
    if type(stored.get("count")) is not int or stored["count"] < 1:
        raise BadValue("keyframes", folder / INDEX, f"a count of keyframes, at least 1, not {stored.get('count')}")
    parts = construct_generator(stored["components"], spec, folder)
    choice = parts.pop("choice")
    source = GeneratedKeyframes(**parts)
    load_strictly("keyframes", _own(source), folder / WEIGHTS)
    source.network.eval()
    return Phase1(source, spec, stored["count"], stored["components"], stored["trained"], choice=choice)


def _choice(phase1: Phase1, folder: Path) -> dict[str, Any]:
    """The node of a generator's choice; the weights of a scorer that are not in the package go into the folder."""
    node, scorer = phase1.components["choice"], phase1.choice.scorer
    (folder / SCORER).unlink(missing_ok=True)
    if scorer is None:
        return node
    if not isinstance(scorer, CaptionScorer):
        allowed = "a scorer of this package: others cannot be stored (keyframe_choice=first is stored)"
        raise BadValue("keyframe_choice.scorer", type(scorer).__name__, allowed)
    if scorer.weights == SHIPPED:
        return node
    save_reader(scorer.reader, folder / SCORER)
    return {**node, "scorer": {**node["scorer"], "weights": INSIDE + SCORER}}


def _own(source: GeneratedKeyframes) -> dict[str, Tensor]:
    """The weights outside of ``transformer/``."""
    network = {f"network.{name}": weight for name, weight in beside_transformer(source.network).items()}
    return network | {f"flow.{name}": weight for name, weight in source.flow.state_dict().items()}
