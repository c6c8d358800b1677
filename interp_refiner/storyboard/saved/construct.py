"""Builds objects from the plain values in a pipeline's folder, which may be untrusted."""

import inspect
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from interp_refiner.config.hints import rules
from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.data.codec import Codec, Still, declared_codec
from interp_refiner.data.text import TextEncoder, declared_text_encoder
from interp_refiner.data.world import CaptionScorer
from interp_refiner.forward.corruption import BridgeTime, Corruption, Drawn, Given, NoiseProfile
from interp_refiner.forward.interpolator import Fields, Interpolator, LawOfMotion
from interp_refiner.forward.schedule import Schedule, Selector
from interp_refiner.forward.scheduled_sampling import Probability, ProposalConfidence, ScheduledSampling
from interp_refiner.model.attention import Attention
from interp_refiner.model.backbone import (
    Backbone,
    Blocks,
    Conditioning,
    Convolutions,
    FactorisedSize,
    Interface,
    KeyframeChannels,
    LoRA,
    LTXSize,
    MapView,
    Recomputation,
    Timestep,
    TrajectorySize,
    WanSize,
)
from interp_refiner.model.keyframes import Choice, FlowTime, KeyframeFlow, KeyframeSampler
from interp_refiner.model.objective import Gate, Matching, Objective, PatchScore, Robust
from interp_refiner.model.sampler import Guidance, Sampler, Spacing, Views

INSIDE = "./"  # in front of paths that are relative to the folder
DIRECTIVES = ("_partial_", "_convert_", "_recursive_")
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
PACKAGE = __name__.partition(".")[0]
DOTTED = re.compile(rf"{PACKAGE}(\.[a-z]\w*)+\.[A-Za-z]\w*")
SLOTS: dict[str, type] = {
    "corruption": Corruption,
    "objective": Objective,
    "backbone": Backbone,
    "sampler": Sampler,
    "codec": Codec,
    "text": TextEncoder,
}
OF_GENERATOR: dict[str, type] = {
    "network": Backbone,
    "flow": KeyframeFlow,
    "sampler": KeyframeSampler,
    "choice": Choice,
}
FIRST = {"_target_": "interp_refiner.model.keyframes.Choice"}
OF_CLIPS = ("objective", "codec", "text")  # their constructors take a ClipSpec
PARTS: tuple[type, ...] = (
    Attention,
    Blocks,
    BridgeTime,
    CaptionScorer,
    Choice,
    Conditioning,
    Convolutions,
    Drawn,
    FactorisedSize,
    Fields,
    FlowTime,
    Gate,
    Given,
    Guidance,
    Interpolator,
    KeyframeChannels,
    KeyframeFlow,
    KeyframeSampler,
    LTXSize,
    LawOfMotion,
    LoRA,
    MapView,
    Matching,
    NoiseProfile,
    PatchScore,
    Probability,
    ProposalConfidence,
    Recomputation,
    Robust,
    Schedule,
    ScheduledSampling,
    Selector,
    Spacing,
    Still,
    Timestep,
    TrajectorySize,
    Views,
    WanSize,
)
FUNCTIONS = (declared_codec, declared_text_encoder)
ALLOWED = f"a component of {PACKAGE}, by the name of its own module or package"


def construct_components(nodes: Mapping[str, Any], spec: ClipSpec, folder: Path) -> dict[str, Any]:
    """The components of a pipeline; each must be of the kind that its name says.

    Args:
        nodes: by name; None for no text encoder.
        spec: of the clips that the pipeline was trained on.
        folder: base folder of relative paths.

    Raises:
        BadValue: an unknown or missing name, a component of another kind, or an error of :func:`construct`.
    """
    if unknown := sorted(set(nodes) - set(SLOTS)):
        raise BadValue("components", unknown[0], " | ".join(SLOTS), SLOTS)
    parts: dict[str, Any] = {}
    known: dict[str, Any] = {"spec": spec}
    for name, base in SLOTS.items():
        supplied = known if name in OF_CLIPS else {}
        if name == "objective":
            supplied = known | {"num_levels": parts["corruption"].num_levels(spec.num_frames)}
        if name == "backbone":
            offered = parts["corruption"].interpolator.num_hypotheses
            outputs = parts["objective"].out_channels(spec.channels, offered)
            supplied = {"interface": Interface(spec, offered, outputs)}
        made = construct(nodes.get(name), folder, **supplied)
        parts[name] = None if name == "text" and made is None else _of_kind(name, made, base)
    return parts


def construct_generator(nodes: Mapping[str, Any], spec: ClipSpec, folder: Path) -> dict[str, Any]:
    """Network, flow, sampler and choice of a generator of keyframes; raises as :func:`construct_components`.

    Folders of earlier versions have no choice: they take the first sample.
    """
    nodes = {"choice": FIRST, **nodes}
    if wrong := sorted(set(nodes) ^ set(OF_GENERATOR)):
        raise BadValue("components", wrong[0], " | ".join(OF_GENERATOR), OF_GENERATOR)
    network = {"interface": Interface(spec, num_hypotheses=0)}
    supplied: dict[str, dict[str, Any]] = {"network": network, "flow": {"spec": spec}}
    return {
        name: _of_kind(name, construct(nodes[name], folder, **supplied.get(name, {})), base)
        for name, base in OF_GENERATOR.items()
    }


def _of_kind(name: str, made: Any, base: type) -> Any:
    if not isinstance(made, base):
        raise BadValue(f"components.{name}", type(made).__name__, f"a {base.__name__}")
    return made


def construct(node: Any, folder: Path, **supplied: Any) -> Any:
    """The object that a node of plain values describes; ``supplied`` are further constructor arguments.

    Raises:
        BadValue: a ``_target_`` that is not a component (an untrusted folder could use it to run any code), or an
            argument that the component of this version does not have, or of another type, or one that is lacking.
    """
    if isinstance(node, str) and node.startswith(INSIDE):
        return str(folder / node)
    if isinstance(node, list | tuple):
        return [construct(value, folder) for value in node]
    if not isinstance(node, Mapping):
        return node
    values = {name: value for name, value in node.items() if name not in DIRECTIVES}
    if "_target_" not in values:
        return {name: construct(value, folder) for name, value in values.items()}
    made_by = component(values.pop("_target_"))
    known = inspect.signature(made_by).parameters
    for name in values:
        if name not in known:
            allowed = f"an argument of {made_by.__name__}: another version wrote this folder, export it again"
            raise BadValue("components", name, allowed, list(known))
    for name, rule in rules(made_by).items():
        if isinstance(value := values.get(name), int | float | str):
            rule.check(f"components.{name}", value)
    arguments = {name: construct(value, folder) for name, value in values.items()} | supplied
    for name, parameter in known.items():
        if parameter.default is parameter.empty and parameter.kind not in VARIADIC and name not in arguments:
            raise BadValue("components", name, f"an argument of {made_by.__name__}, which this folder lacks")
    return made_by(**arguments)


def check_storable(node: Any, key: str = "") -> None:
    """Refuses what :func:`construct` would refuse later, before a folder is written.

    Raises:
        BadValue: naming the first part that is not a component of this package.
    """
    pairs = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list | tuple) else ()
    for name, value in pairs:
        here = f"{key}.{name}" if key else str(name)
        if name != "_target_":
            check_storable(value, here)
            continue
        try:
            component(value)
        except BadValue:
            raise BadValue(
                here, value, f"a part of {PACKAGE}: an exported folder holds no parts from outside"
            ) from None


def component(target: Any) -> Any:
    """The class or function with a dotted name; it must be defined in that module, not imported there.

    Raises:
        BadValue: the name is not a component defined in the named module, or below the named package.
    """
    if not isinstance(target, str) or not DOTTED.fullmatch(target):
        raise BadValue("_target_", target, ALLOWED)
    module, _, name = target.rpartition(".")
    try:
        found = vars(import_module(module)).get(name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(PACKAGE):
            raise
        raise BadValue("_target_", target, ALLOWED) from None
    listed = issubclass(found, (*SLOTS.values(), *PARTS)) if isinstance(found, type) else found in FUNCTIONS
    if not listed or not f"{found.__module__}.".startswith(f"{module}."):
        raise BadValue("_target_", target, ALLOWED)
    return found
