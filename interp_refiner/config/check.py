"""Checks the resolved config against the signatures of its targets, before anything is built."""

import functools
import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from interp_refiner.config.command_line import parsed
from interp_refiner.config.hints import rules
from interp_refiner.config.nodes import DIRECTIVES, is_partial, is_target, plain, target_nodes, walk, without
from interp_refiner.config.refusal import Refused, one_line
from interp_refiner.core import BadValue, MissingExtra, suggestion

_DOTTED_PATH = "the dotted path of a class or function"


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

    @classmethod
    def idle(cls, cfg: DictConfig) -> Mapping[str, str]:
        """The settings that have no effect beside the others, with the reason; they are refused if they were typed."""
        return {}


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
    typed = OmegaConf.select(cfg, "hydra.overrides.task", default=[])
    cfg = without(cfg, "hydra")
    _check_resolves(cfg)
    known = rules(settings)
    top = {str(name): cfg[name] for name in cfg if name in known or not isinstance(cfg[name], DictConfig)}
    _check_top(settings, top)
    chosen, scales = choices or {}, top.get("scales")
    if scales is not None and chosen.get("scale") not in (None, *scales):
        allowed = f"{' | '.join(scales)} with +experiment={chosen.get('experiment')}"
        raise BadValue("scale", chosen["scale"], allowed, scales)
    for key, node in target_nodes(cfg):
        with _blaming_experiment(chosen, typed):
            check_node(key, node)
        target, positional = locate_target(key, node["_target_"]), node.get("_args_", [])
        if is_partial(node):
            continue
        for name, rule in list(rules(target).items())[len(positional) :]:
            written = name in node and not OmegaConf.is_missing(node, name)
            if rule.is_required and rule.words and not rule.code_only and not written:
                raise Refused(f"{key}.{name} has no value: {_path(target)} needs it, set +{key}.{name}=<value>")


@contextmanager
def _blaming_experiment(choices: Mapping[str, str | None], typed: Iterable[str]) -> Iterator[None]:
    """Names the experiment in an error whose value it set for an option that the command line replaced."""
    try:
        yield
    except (BadValue, Refused) as error:
        key = error.name if isinstance(error, BadValue) else str(error).partition(": ")[0]
        words = {text: parsed(text).key_or_group for text in typed}
        blamed = {text: word for text, word in words.items() if f"{key}.".startswith(f"{word.replace('/', '.')}.")}
        experiment, option = choices.get("experiment"), next(iter(blamed), None)
        if experiment is None or option is None or not set(blamed.values()) <= choices.keys():
            raise  # no experiment, or the value itself was typed
        why = f"+experiment={experiment} sets it for another {blamed[option]}; leave out {option} or the experiment"
        if isinstance(error, BadValue):
            raise BadValue(error.name, error.value, f"{error.allowed}; {why}") from error
        raise Refused(f"{error}; {why}") from error


def check_parts(cfg: DictConfig, parts: Iterable[str]) -> None:
    """Refuses a config, which may have been edited by hand, that lacks parts or has wrong values in them.

    Nodes inside a part are checked when they are built. The rest of the config is not checked: it may need packages
    that are not installed here.

    Raises:
        BadValue, Refused: as :func:`check_config`, or a part that is not a node with a ``_target_``.
    """
    _check_top(Settings, {"seed": cfg.get("seed", 0)})
    for part in parts:
        if not is_target(found := cfg.get(part)):
            raise BadValue(part, json.dumps(plain(found)), "a component, which is a node with _target_")
        _check_resolves(found, part)
        check_node(part, found)


def check_node(key: str, node: DictConfig, given: Collection[str] = ()) -> dict[str, Any]:
    """Compares the values of one node with the signature of its target; nodes inside it are left to their own check.

    Args:
        key: where the node is.
        node: with a ``_target_``.
        given: names of entries that the program replaces.

    Returns:
        Its other entries by name, without missing ones.

    Raises:
        BadValue, Refused: an argument that the target does not have, or a value that its type hint does not allow.
    """
    if not isinstance(positional := node.get("_args_", []), ListConfig | list):
        raise BadValue(f"{key}._args_", plain(positional), "a list")
    names = [name for name in node if name not in {*DIRECTIVES, *given} and not OmegaConf.is_missing(node, name)]
    arguments = {str(name): node[name] for name in names}
    _check_arguments(locate_target(key, node["_target_"]), arguments, key)
    return arguments


def _check_resolves(cfg: DictConfig, key: str = "") -> None:
    """Refuses entries below a node without a value: missing ones, and interpolations that cannot be resolved."""
    for place, node, name in walk(cfg, key):
        if OmegaConf.is_missing(node, name):
            if is_partial(node):
                continue
            raise Refused(f"{place} has no value: set {place}=<value>")
        try:
            node[name]
        except OmegaConfBaseException as error:
            said = str(error).splitlines()[0]
            if unset := re.search(r"Environment variable '(\w+)' not found", said):
                raise Refused(f"{place} has no value: set {place}=<value>, or {unset[1]} in the environment") from error
            raw = OmegaConf.to_container(node, resolve=False)[name]  # type: ignore[index,call-overload]
            raise Refused(f"{place}={raw}: cannot be resolved: {said}") from error


def _check_top(settings: type[Settings], top: Mapping[str, Any]) -> None:
    """Refuses values at the top that the settings do not allow."""
    _check_arguments(settings, top, key="")
    if not 0 <= top.get("seed", 0) < 2**32:  # NumPy takes no other seed
        raise BadValue("seed", top["seed"], f"0 to {2**32 - 1}")


def _check_arguments(target: Callable, given: Mapping[str, Any], key: str) -> None:
    """Refuses arguments that ``target`` does not have, and values that its hints do not allow."""
    prefix, known = f"{key}." if key else "", rules(target)
    for name, value in given.items():
        rule = known.get(name) or known.get("**")
        if rule is None:
            unknown = f"unknown argument of {_path(target)}" if key else "unknown key"
            by_program = {other for other, rule in known.items() if rule.code_only and rule.is_required}
            ours = [other for other in known if other in given or other not in by_program]
            near = suggestion(name, ours).replace("'", f"'{prefix}", 1)  # the prefix would make all names alike
            raise Refused(f"{prefix}{name}: {unknown}{near}")
        if not is_target(value) and not target_nodes(value):  # these are checked as nodes
            rule.check(f"{prefix}{name}", plain(value))


def check_added(cfg: DictConfig, settings: type[Settings]) -> None:
    """Refuses nodes at the top that only ``+`` on the command line made: no settings, no groups, and read by nothing.

    A node that also has entries from files is not refused: ``+sampler@samplers.mine=bridge`` adds to such a node.

    Args:
        cfg: the composed config, with its ``hydra`` node.
        settings: as in :func:`check_config`.

    Raises:
        Refused: naming the node.
    """
    typed = cast(list[str], OmegaConf.to_container(cfg.hydra.overrides.task))  # interpolations stay as typed
    items = [item for item in map(parsed, typed) if item.is_add()]
    added = tuple(f"{item.package or item.key_or_group.replace('/', '.')}." for item in items)
    groups = {group.partition("@")[0].partition("/")[0] for group in cfg.hydra.runtime.choices}
    known = {*rules(settings), *(groups - {item.key_or_group for item in items})}
    for top in dict.fromkeys(key.partition(".")[0] for key in added):
        if top in known or not isinstance(cfg.get(top), DictConfig) or is_read(cfg, top):
            continue
        entries = [(key, parent._get_node(name)) for key, parent, name in walk(cfg[top], top)]
        if all(f"{key}.".startswith(added) for key, entry in entries if not isinstance(entry, DictConfig)):
            raise Refused(f"{top}: unknown key{suggestion(top, {*known, *map(str, cfg)} - {top, 'hydra'})}")


def is_read(cfg: DictConfig, top: str) -> bool:
    """Whether an interpolation anywhere else names a node."""
    rest = [without(cfg, top, "hydra"), cfg.hydra.run]
    return any(re.search(rf"\$\{{[^}}]*\b{top}[.,}}]", OmegaConf.to_yaml(part)) for part in rest)


def _path(target: Callable) -> str:
    return f"{target.__module__}.{target.__qualname__}"


def locate_target(key: str, target: Any) -> Callable:
    """The callable that a ``_target_`` names; raises as :func:`target_call`."""
    return target_call(key, target).func


def target_call(key: str, target: Any) -> functools.partial:
    """What a ``_target_`` names, looked up by Hydra, so that Hydra's restrictions hold, and ready to be called.

    Raises:
        BadValue, Refused: there is none, it is forbidden, or it needs a package that is not installed.
    """
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        raise BadValue(f"{key}._target_", target, _DOTTED_PATH)
    try:
        return _looked_up(target)
    except InstantiationException as error:
        causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    root, extras = causes[-1], [cause for cause in causes if isinstance(cause, MissingExtra)]
    if extras:
        raise Refused(f"{key}: {extras[0]}") from extras[0]
    if len(causes) == 1:  # Hydra's own objection
        raise Refused(f"{key}._target_={target}: {one_line(root)}") from root
    if isinstance(root, ModuleNotFoundError) and not f"{target}.".startswith(f"{root.name}."):
        raise Refused(f"{key}: {target} needs the module {root.name}, which is not installed") from root
    if isinstance(root, ModuleNotFoundError) and root.name == target.partition(".")[0] and not is_ours(target):
        raise Refused(f"{key}: {foreign(root, target)}") from root
    if isinstance(root, ModuleNotFoundError | AttributeError):
        module, _, _ = target.rpartition(".")
        public = [f"{module}.{name}" for name in dir(sys.modules.get(module)) if not name.startswith("_")]
        raise BadValue(f"{key}._target_", target, _DOTTED_PATH, public) from root
    raise root  # the module itself is broken


@functools.cache
def _looked_up(target: str) -> functools.partial:
    return hydra.utils.instantiate({"_target_": target, "_partial_": True})


def is_ours(target: str) -> bool:
    """Whether a target belongs to this package."""
    return target.partition(".")[0] == __name__.partition(".")[0]


def foreign(error: ImportError, target: str) -> str:
    """Says that a target of another package cannot be imported, and the cure."""
    said = str(error).splitlines()[0].rstrip(":")
    return f"{said}; {target} belongs to another package: install it, or put its folder on PYTHONPATH"
