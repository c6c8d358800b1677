"""Refuses settings on the command line that have no effect.

A program's ``Settings.idle`` names its settings that have none, and so does the class of a part, if it has a method
``idle``: both say why. A value that a file sets, such as an experiment's, is not refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from omegaconf import DictConfig, OmegaConf

from interp_refiner.config.check import Settings, locate_target
from interp_refiner.config.command_line import parsed
from interp_refiner.config.nodes import is_partial, plain, target_nodes, without
from interp_refiner.config.refusal import Refused


@runtime_checkable
class SaysIdle(Protocol):
    """A class of which some settings have no effect beside others."""

    @staticmethod
    def idle(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """The names of such settings with the reason; ``settings`` are the values of its node."""


def idle_settings(cfg: DictConfig, settings: type[Settings]) -> dict[str, str]:
    """What was typed and has no effect.

    Args:
        cfg: the composed config, with its ``hydra`` node.
        settings: of the program.

    Returns:
        The key of every such override, with the line that refuses it.
    """
    reasons = dict(settings.idle(cfg))
    for key, node in target_nodes(without(cfg, "hydra")):
        target = None if is_partial(node) else locate_target(key, node["_target_"])
        if isinstance(target, SaysIdle):
            values = {str(name): plain(node[name]) for name in node if not OmegaConf.is_missing(node, name)}
            reasons |= {f"{key}.{name}": why for name, why in target.idle(values).items()}
    typed = cast(list[str], OmegaConf.to_container(cfg.hydra.overrides.task))
    found = settings_of(typed, reasons)
    return {key_of(text): f"{text.lstrip('+')}: no effect: {reasons[name]}" for text, name in found}


def refuse_idle(jobs: Sequence[Mapping[str, str]]) -> None:
    """Refuses a setting without effect in all jobs of a sweep: in a sweep over others, it may have one in some jobs.

    Args:
        jobs: the :func:`idle_settings` of every job.

    Raises:
        Refused: the first such setting, with the reason.
    """
    first, *others = jobs
    for key, line in first.items():
        if all(key in idle for idle in others):
            raise Refused(line)


def settings_of(overrides: Iterable[str], names: Iterable[str]) -> list[tuple[str, str]]:
    """The overrides that set one of ``names`` or a value below it, each with that name."""
    keys = {text: key_of(text) for text in overrides}
    return [(text, name) for name in names for text, key in keys.items() if f"{key}.".startswith(f"{name}.")]


def key_of(override: str) -> str:
    """The key whose value an override sets; empty for one that deletes or sets null, which asks for nothing."""
    item = parsed(override)
    return "" if item.is_delete() or item.value() is None else item.package or item.key_or_group.replace("/", ".")
