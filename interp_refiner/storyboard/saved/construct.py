"""Builds objects from the plain values in a pipeline's folder, which may be untrusted."""

import inspect
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

from interp_refiner.config.hints import rules
from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.data.codec import Codec, declared_codec
from interp_refiner.data.text import TextEncoder, declared_text_encoder
from interp_refiner.data.world import CaptionScorer
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.backbone import Backbone, Interface
from interp_refiner.model.keyframes import Choice, KeyframeFlow, KeyframeSampler, KeyframeScorer
from interp_refiner.model.objective import Objective
from interp_refiner.model.sampler import Sampler

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
FUNCTIONS = ((declared_codec, Codec), (declared_text_encoder, TextEncoder))  # with what they return
OF_PROTOCOL: dict[type, type] = {KeyframeScorer: CaptionScorer}  # any class with these methods would match the protocol
Kinds = tuple[type, ...]


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

    def part(name: str, **supplied: Any) -> Any:
        return _part(name, nodes.get(name), SLOTS[name], folder, **supplied)

    corruption = part("corruption")
    objective = part("objective", spec=spec, num_levels=corruption.num_levels(spec.num_frames))
    return {
        "corruption": corruption,
        "objective": objective,
        "backbone": part("backbone", interface=objective.interface(spec, corruption.interpolator.num_hypotheses)),
        "sampler": part("sampler"),
        "codec": part("codec", spec=spec),
        "text": None if nodes.get("text") is None else part("text", spec=spec),
    }


def construct_generator(nodes: Mapping[str, Any], spec: ClipSpec, folder: Path) -> dict[str, Any]:
    """Network, flow, sampler and choice of a keyframe generator; raises as :func:`construct_components`.

    Folders of earlier versions have no choice: they take the first sample.
    """
    nodes = {"choice": FIRST, **nodes}
    if wrong := sorted(set(nodes) ^ set(OF_GENERATOR)):
        raise BadValue("components", wrong[0], " | ".join(OF_GENERATOR), OF_GENERATOR)
    supplied: dict[str, dict[str, Any]] = {
        "network": {"interface": Interface(spec, num_hypotheses=0)},
        "flow": {"spec": spec},
    }
    return {
        name: _part(name, nodes[name], kind, folder, **supplied.get(name, {})) for name, kind in OF_GENERATOR.items()
    }


def _part(name: str, node: Any, kind: type, folder: Path, **supplied: Any) -> Any:
    made = construct(node, folder, (kind,), **supplied)
    if not isinstance(made, kind):
        raise BadValue(f"components.{name}", type(made).__name__, f"a {kind.__name__}")
    return made


def construct(node: Any, folder: Path, kinds: Kinds, **supplied: Any) -> Any:
    """The object that a node of plain values describes.

    Args:
        node: plain values; a mapping with ``_target_`` is a component, whose arguments are the other values.
        folder: base folder of relative paths.
        kinds: the classes that components may have here; those inside them have the classes that :func:`declared` says.
        supplied: further constructor arguments.

    Raises:
        BadValue: a ``_target_`` that is not a component (an untrusted folder could use it to run any code), or an
            argument that this version's component does not have, that has another type, or that is missing.
    """
    if isinstance(node, str) and node.startswith(INSIDE):
        return str(folder / node)
    if isinstance(node, list | tuple):
        return [construct(value, folder, kinds) for value in node]
    if not isinstance(node, Mapping):
        return node
    values = {name: value for name, value in node.items() if name not in DIRECTIVES}
    if "_target_" not in values:
        return {name: construct(value, folder, kinds) for name, value in values.items()}
    made_by = component(values.pop("_target_"), kinds)
    known = inspect.signature(made_by).parameters
    for name in values:
        if name not in known:
            allowed = f"an argument of {made_by.__name__}: another version wrote this folder, export it again"
            raise BadValue("components", name, allowed, list(known))
    for name, rule in rules(made_by).items():
        is_node = isinstance(value := values.get(name), Mapping) and "_target_" in value
        if name in values and not is_node:
            rule.check(f"components.{name}", value)
    inside = declared(made_by)
    arguments = {name: construct(value, folder, inside.get(name, ())) for name, value in values.items()} | supplied
    for name, parameter in known.items():
        if parameter.default is parameter.empty and parameter.kind not in VARIADIC and name not in arguments:
            raise BadValue("components", name, f"an argument of {made_by.__name__}, which this folder lacks")
    return made_by(**arguments)


def check_storable(node: Any, kinds: Kinds, key: str) -> None:
    """Refuses what :func:`construct` would refuse later, before a folder is written.

    Raises:
        BadValue: naming the first part that is not a component of this package.
    """
    if isinstance(node, Mapping) and "_target_" in node:
        try:
            inside = declared(component(node["_target_"], kinds))
        except BadValue:
            allowed = f"a part of {PACKAGE}: an exported folder holds no parts from outside"
            raise BadValue(f"{key}._target_", node["_target_"], allowed) from None
        for name, value in node.items():
            check_storable(value, inside.get(name, ()), f"{key}.{name}")
    elif isinstance(node, Mapping | list | tuple):
        for name, value in node.items() if isinstance(node, Mapping) else enumerate(node):
            check_storable(value, kinds, f"{key}.{name}")


def component(target: Any, kinds: Kinds) -> Any:
    """The class or function with a dotted name; it must be defined in that module, not imported there.

    Args:
        target: the name.
        kinds: the classes that are allowed, with their subclasses.

    Raises:
        BadValue: the name is not a component of these classes that is defined in the named module, or below the named
            package.
    """
    allowed = f"{' | '.join(kind.__name__ for kind in kinds) or 'no component'} of {PACKAGE}"
    refusal = BadValue("_target_", target, f"{allowed}, by the name of its own module or package")
    if not isinstance(target, str) or not DOTTED.fullmatch(target):
        raise refusal
    module, _, name = target.rpartition(".")
    try:
        found = vars(import_module(module)).get(name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(PACKAGE):
            raise
        raise refusal from None
    kind = found if isinstance(found, type) else next((made for by, made in FUNCTIONS if by is found), object)
    if not issubclass(kind, kinds) or not f"{found.__module__}.".startswith(f"{module}."):
        raise refusal
    return found


def declared(made_by: Any) -> dict[str, Kinds]:
    """The classes of this package that a component declares for its arguments.

    So a folder can build only what the component's own code expects. For example, it cannot put a codec, which reads a
    file, in the place of a penalty.
    """
    hints = get_type_hints(made_by.__init__ if isinstance(made_by, type) else made_by)
    return {name: tuple(_classes(hint)) for name, hint in hints.items()}


def _classes(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and hint.__module__.startswith(f"{PACKAGE}."):
        kind = OF_PROTOCOL.get(hint, hint)
        if not getattr(kind, "_is_protocol", False):
            yield kind
    for inner in get_args(hint):
        yield from _classes(inner)
