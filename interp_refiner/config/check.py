"""Checks the resolved config against the signatures of its targets, before anything is built."""

import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from interp_refiner.config.command_line import parsed
from interp_refiner.config.hints import Rule, rules
from interp_refiner.config.nodes import Container, is_target, target_nodes, walk
from interp_refiner.config.refusal import Refused, one_line
from interp_refiner.core import BadValue, MissingExtra, suggestion

_DIRECTIVES = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}
_DOTTED_PATH = "the dotted path of a class or function"
_NESTED = object()  # stands for an argument that is built from a node of its own


@dataclass
class Settings:
    """The top-level values of every program; a program with more values extends this class.

    Attributes:
        seed: of weights, plans and noise, 0 to 2^32 - 1.
        scales: the scales that the chosen experiment allows; None: all.
    """

    seed: int = 0
    scales: list[str] | None = None

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuses mistakes that no signature shows, before a run has a folder. Raises like :func:`check_config`."""


def check_config(
    cfg: DictConfig, settings: type[Settings] = Settings, choices: Mapping[str, str | None] | None = None
) -> None:
    """Refuses a config that cannot be built, naming the key, the value and what was expected.

    Every node with a ``_target_`` is compared with the target's signature: unknown arguments, values that the type
    hints do not allow, missing arguments. Arguments of a ``_partial_`` node, and arguments that a config cannot write
    (a module, a tensor), may be missing, because the program supplies them. Nothing is called.

    Args:
        cfg: the composed config; a ``hydra`` node in it is left out.
        settings: the dataclass whose fields are the top-level values.
        choices: the chosen option of every config group.

    Raises:
        BadValue, Refused: the first mistake found.
    """
    cfg = OmegaConf.masked_copy(cfg, [name for name in cfg if name != "hydra"]) if "hydra" in cfg else cfg
    for key, node, name in walk(cfg):
        _check_resolves(key, node, name)
    plain = {str(name): _plain(cfg[name]) for name in cfg if not isinstance(cfg[name], DictConfig)}
    _check_values(settings, plain, key="")
    if not 0 <= plain.get("seed", 0) < 2**32:  # NumPy takes no other seed
        raise BadValue("seed", plain["seed"], f"0 to {2**32 - 1}")
    _check_scale(plain.get("scales"), choices or {})
    for key, node in target_nodes(cfg):
        target = locate_target(key, node["_target_"])
        names = [name for name in node if name not in _DIRECTIVES and not OmegaConf.is_missing(node, name)]
        arguments = {str(name): _plain(node[name]) for name in names}
        _check_values(target, arguments, key)
        if not _is_partial(node):
            _check_complete(target, arguments, key, positional=len(node.get("_args_", [])))


def check_added(cfg: DictConfig, settings: type[Settings]) -> None:
    """Refuses nodes at the top that only ``+`` on the command line made, and that nothing reads.

    Args:
        cfg: the composed config, with its ``hydra`` node.
        settings: as in :func:`check_config`.

    Raises:
        Refused: naming the node, which is no setting, no group of the defaults list, and in no interpolation.
    """
    typed = cast(list[str], OmegaConf.to_container(cfg.hydra.overrides.task))  # interpolations stay as typed
    overrides = [parsed(text) for text in typed]
    added = [item.package or item.key_or_group.replace("/", ".") for item in overrides if item.is_add()]
    groups = {group.partition("@")[0].partition("/")[0] for group in cfg.hydra.runtime.choices}
    known = {*parameters(settings), *(groups - {item.key_or_group for item in overrides if item.is_add()})}
    for top in dict.fromkeys(key.partition(".")[0] for key in added):
        if top in known or top not in cfg or not isinstance(cfg[top], DictConfig):
            continue
        leaves = [
            key for key, parent, name in walk(cfg[top], top) if not isinstance(parent._get_node(name), DictConfig)
        ]
        rest = [OmegaConf.masked_copy(cfg, [name for name in cfg if name not in (top, "hydra")]), cfg.hydra.run]
        read = any(re.search(rf"\$\{{[^}}]*\b{top}[.}}]", OmegaConf.to_yaml(part)) for part in rest)
        if not read and all(any(f"{leaf}.".startswith(f"{key}.") for key in added) for leaf in leaves):
            raise Refused(f"{top}: unknown key{suggestion(top, {*known, *map(str, cfg)} - {top, 'hydra'})}")


def _is_partial(node: Any) -> bool:
    return is_target(node) and bool(node.get("_partial_", False))


def _check_resolves(key: str, node: Container, name: Any) -> None:
    if OmegaConf.is_missing(node, name):
        if not _is_partial(node):
            raise Refused(f"{key} has no value: set {key}=<value>")
        return
    try:
        node[name]
    except OmegaConfBaseException as error:
        raw = OmegaConf.to_container(node, resolve=False)[name]  # type: ignore[index,call-overload]
        said = str(error).splitlines()[0]
        if unset := re.search(r"Environment variable '(\w+)' not found", said):
            raise Refused(f"{key} has no value: set {key}=<value>, or {unset[1]} in the environment") from error
        raise Refused(f"{key}={raw}: cannot be resolved: {said}") from error


def _plain(value: Any) -> Any:
    """A value as Python's own containers, or ``_NESTED``."""
    if not isinstance(value, Container):
        return value
    if is_target(value) or target_nodes(value):
        return _NESTED
    return OmegaConf.to_container(value, resolve=True)


def _check_scale(scales: list[str] | None, choices: Mapping[str, str | None]) -> None:
    scale = choices.get("scale")
    if scales is not None and scale is not None and scale not in scales:
        raise BadValue("scale", scale, f"{' | '.join(scales)} with +experiment={choices.get('experiment')}", scales)


def parameters(target: Callable) -> dict[str, inspect.Parameter]:
    """The named parameters of ``target``: neither ``*args`` nor ``**kwargs``."""
    return {name: p for name, p in _signature(target).items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


@cache
def _signature(target: Callable) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except ValueError:  # a builtin without a signature may take any argument
        return {"kwargs": inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)}


def _check_values(target: Callable, arguments: dict[str, Any], key: str) -> None:
    """Refuses arguments that ``target`` does not have and values that its hints do not allow."""
    prefix = f"{key}." if key else ""
    named, hints = parameters(target), rules(target)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in _signature(target).values())
    for name, value in arguments.items():
        if name in named:
            if value is not _NESTED and name in hints and not _is_default(value, named[name].default):
                hints[name].check(f"{prefix}{name}", value)
        elif not takes_any:
            unknown = f"unknown argument of {_path(target)}" if key else "unknown key"
            ours = [n for n in named if n in arguments or not _only_by_code(named[n], hints.get(n))]
            near = suggestion(name, ours).replace("'", f"'{prefix}", 1)  # the prefix would make all names alike
            raise Refused(f"{prefix}{name}: {unknown}{near}")


def _only_by_code(parameter: inspect.Parameter, hint: Rule | None) -> bool:
    """Whether only the program supplies an argument: it has no default, and a config cannot write it."""
    return hint is not None and hint.code_only and parameter.default is inspect.Parameter.empty


def _check_complete(target: Callable, names: Collection[str], key: str, positional: int) -> None:
    """Refuses missing arguments that a config can write; ``_args_`` gives the first ``positional`` ones."""
    named, hints = parameters(target), rules(target)
    for name in list(named)[positional:]:
        by_config = name in hints and not hints[name].code_only
        if by_config and name not in names and named[name].default is inspect.Parameter.empty:
            raise Refused(f"{key}.{name} has no value: {_path(target)} needs it, set +{key}.{name}=<value>")


def _is_default(value: Any, default: Any) -> bool:
    """A default is allowed even if it contradicts the hint (``size: int = None``)."""
    return value is default or (type(value) is type(default) and value == default)


def _path(target: Callable) -> str:
    return f"{target.__module__}.{target.__qualname__}"


def locate_target(key: str, target: Any) -> Callable:
    """The callable that a ``_target_`` names, looked up by Hydra under Hydra's own restrictions; it is not called."""
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        raise BadValue(f"{key}._target_", target, _DOTTED_PATH)
    try:
        return _located(target)
    except InstantiationException as error:
        causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, MissingExtra):
            raise Refused(f"{key}: {cause}") from cause
    root = causes[-1]
    if len(causes) == 1:  # Hydra's own objection
        raise Refused(f"{key}._target_={target}: {one_line(root)}") from root
    if isinstance(root, ModuleNotFoundError) and not f"{target}.".startswith(f"{root.name}."):
        raise Refused(f"{key}: {target} needs the module {root.name}, which is not installed") from root
    if isinstance(root, ModuleNotFoundError) and root.name == target.partition(".")[0] and not is_ours(target):
        raise Refused(f"{key}: {foreign(root, target)}") from root
    if isinstance(root, ModuleNotFoundError | AttributeError):
        raise BadValue(f"{key}._target_", target, _DOTTED_PATH, _siblings(target)) from root
    raise root  # the module itself is broken


@cache
def _located(target: str) -> Callable:
    return hydra.utils.instantiate({"_target_": target, "_partial_": True}).func


def is_ours(target: str) -> bool:
    """Whether a target belongs to this package."""
    return target.partition(".")[0] == __name__.partition(".")[0]


def foreign(error: ImportError, target: str) -> str:
    """Says that a target of another package cannot be imported, and the cure."""
    said = str(error).splitlines()[0].rstrip(":")
    return f"{said}; {target} belongs to another package: install it, or put its folder on PYTHONPATH"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _siblings(target: str) -> list[str]:
    """The public names of the module that ``target`` should be in."""
    module, _, _ = target.rpartition(".")
    return [f"{module}.{name}" for name in dir(sys.modules.get(module)) if not name.startswith("_")]
