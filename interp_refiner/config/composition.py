"""Composes a program's config by Hydra's public interface, and explains a failure in one line."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from interp_refiner.config.check import locate_target, parameters
from interp_refiner.config.command_line import parsed, quoted
from interp_refiner.config.hints import rules
from interp_refiner.config.nodes import home, is_target, walk
from interp_refiner.config.refusal import Refused
from interp_refiner.core import BadValue, MissingExtra

NOT_COMPOSED = (HydraException, OmegaConfBaseException, ValueError)  # ValueError: a group set to a number or to null
PLUGINS = {  # options that other packages bring, and the extra that installs them
    ("hydra/launcher", "joblib"): ("hydra-joblib-launcher", "sweep"),
    ("hydra/sweeper", "optuna"): ("hydra-optuna-sweeper", "sweep"),
    ("hydra/launcher", "submitit_slurm"): ("hydra-submitit-launcher", "slurm"),
    ("hydra/launcher", "submitit_local"): ("hydra-submitit-launcher", "slurm"),
}


def composed(folder: Path, config_name: str, *overrides: str) -> DictConfig:
    """Composes a config with Hydra's own part, without affecting a program that runs in this process.

    Raises:
        BadValue, MissingExtra, Refused: naming the first wrong override and what is allowed.
    """
    for text in overrides:
        check_one_option(folder, text)
    running, job = GlobalHydra.instance(), JobRuntime.instance().get("name")
    before, running.hydra = running.hydra, None
    try:
        with hydra.initialize_config_dir(str(folder), version_base="1.3", job_name=config_name):

            def compose(chosen: Sequence[str]) -> DictConfig:
                return hydra.compose(config_name, list(chosen), return_hydra_config=True)

            loader = GlobalHydra.instance().config_loader()
            try:
                cfg = compose(overrides)
            except NOT_COMPOSED as error:
                raise explained(error, overrides, compose, loader) from None
            if plain := [text for text in overrides if sets_a_component(text, cfg)]:
                check_components(plain, compose([text for text in overrides if text not in plain]), loader)
            return cfg
    finally:
        running.hydra = before
        JobRuntime.instance().set("name", job)


def check_one_option(folder: Path, text: str) -> None:
    """Refuses an option that is set as a value, and a list for a group whose options each build one object.

    Groups such as loggers, whose options can be combined, take lists.

    Args:
        folder: of the config groups.
        text: an override.

    Raises:
        BadValue, Refused: naming the options of the group, or the override that is meant.
    """
    key, _, value = text.partition("=")
    if (folder / (group := key.lstrip("+").replace(".", "/")) / f"{value}.yaml").is_file() and group != key.lstrip("+"):
        raise Refused(f"{text}: {value} is an option; use {group}={value}")
    files = sorted((folder / key.lstrip("+").partition("@")[0]).glob("*.yaml")) if value.startswith("[") else []
    if any("_target_" in cast(DictConfig, OmegaConf.load(file)) for file in files):
        options = [file.stem for file in files]
        raise BadValue(key, value, f"one of {' | '.join(options)}, not a list", options)


def sets_a_component(text: str, cfg: DictConfig) -> bool:
    """Whether an override sets a component to a plain value, for example a number; null removes it.

    Args:
        text: the override.
        cfg: composed with it.
    """
    item = parsed(text)
    parent, _, name = item.key_or_group.rpartition(".")
    if parent.partition(".")[0] == "hydra":  # Hydra's own config has no components of ours
        return False
    owner, value = OmegaConf.select(cfg, parent), item.value()
    if not isinstance(owner, DictConfig) or item.is_add() or item.is_delete() or isinstance(value, dict | None):
        return False
    if is_target(owner):
        known = rules(locate_target(parent, owner["_target_"]))
        return name in known and known[name].is_component
    # a node of components, such as callback or corruption.drawn
    return bool(parent) and (len(owner) == 1 or any(is_target(owner._get_node(other)) for other in owner))


def check_components(overrides: Sequence[str], before: DictConfig, loader: ConfigLoader) -> None:
    """Refuses plain values in place of components.

    Args:
        overrides: with plain values.
        before: composed without them.
        loader: of the config groups.

    Raises:
        BadValue: naming the options of the component's group, if it has one, and its keys.
    """
    for text in overrides:
        key, _, value = text.partition("=")
        node, place = OmegaConf.select(before, key), home(before, key)
        if is_target(node):
            group = group_at(place, before.hydra.runtime.choices, loader)
            options, keys = loader.get_group_options(group), [name for name in map(str, node) if name[0] != "_"]
            ways = [f"{group}=<{' | '.join(sorted(options))}>"] * bool(options)
            ways += [f"{place}.<{' | '.join(keys)}>=<value>"] * bool(keys)
            raise BadValue(key, value, f"a component, not a plain value; set {' or '.join(ways) or f'{key}=null'}")


def group_at(key: str, choices: Mapping[str, str | None], loader: ConfigLoader) -> str:
    """The config group whose options stand at a key: ``corruption/bridge_time`` at ``corruption.drawn.bridge_time``.

    Args:
        key: of a node.
        choices: the chosen option of every group.
        loader: of the groups.
    """
    for group, option in choices.items():
        found = [source for source in loader.get_sources() if source.is_config(f"{group}/{option}")]
        if found and found[0].load_config(f"{group}/{option}").header.get("package") == key:
            return group
    return key.replace(".", "/")


def explained(
    error: Exception,
    overrides: Sequence[str],
    compose: Callable[[Sequence[str]], DictConfig],
    loader: ConfigLoader,
) -> Exception:
    """The mistake behind an error of :func:`composed`: the wrong override, the fault, and how to fix it.

    It adds one override at a time, groups first, until composing fails. The last override is the wrong one.
    """
    items = []
    for text in overrides:
        try:
            items.append(parsed(text))
        except OverrideParseException as fault:
            reason = f" ({(fault.message.splitlines()[1:2] or [fault.message])[0]})" if "=" in text else ""
            forms = "key=value without spaces around =, +key=value, ~key or group=option"
            return Refused(f"{text}: expected {forms}{reason}")
    sound = [str(item.input_line) for item in items if item.key_or_group == "hydra.searchpath"]
    before: Any = None
    for item in sorted(items, key=lambda item: not loader.get_group_options(item.key_or_group)):
        if item.input_line in sound:
            continue
        assert item.input_line is not None
        try:
            before = before or compose(sound)
            before, sound = compose([*sound, item.input_line]), [*sound, item.input_line]
        except NOT_COMPOSED as found:
            return _unsound(item, found, before, loader)
    return _other(error, loader, overrides)


def _unsound(item: Override, error: Exception, before: DictConfig | None, loader: ConfigLoader) -> Exception:
    """What is wrong with an override, given the config before it."""
    text, key = str(item.input_line), item.key_or_group
    options = loader.get_group_options(key)
    if before is None or (isinstance(error, MissingConfigException) and error.missing_cfg_file):
        return _other(error, loader, [text])
    now = OmegaConf.select(before, key, throw_on_resolution_failure=False)
    there = now is not None
    if item.is_sweep_override():
        values, how = text.partition("=")[2], ""
        if item.is_choice_sweep() and "(" not in values and not options:
            how = f"; a list is written {key}=[{values}]" if isinstance(now, ListConfig) else how
            how = f'; a value with a comma is written {key}="{quoted(values)}"' if isinstance(now, str) else how
        return Refused(f"{text}: a sweep needs --multirun{how}")
    if options and isinstance(item.value(), int | float | dict | None) and not item.is_delete():
        none = "" if there else f"; for none, leave {key} out"
        return Refused(f"{text}: expected {' | '.join(sorted(options))}{none}")
    if item.is_add() and (there or options):
        return Refused(f"{text}: there already, and can be replaced; use {text.lstrip('+')}")
    if options and isinstance(item.value(), str) and not item.is_delete():
        parent, _, part = key.rpartition("/")
        if whole := loader.get_group_options(parent) if parent else []:
            having = [name for name in sorted(whole) if has_part(loader, parent, name, part)] or sorted(whole)
            return Refused(f"{text}: no {parent} that has {part} is chosen; add {parent}=<{' | '.join(having)}>")
        use = f"; use +{text}" if is_global(loader, f"{key}/{item.value()}") else ""
        return Refused(f"{text}: the defaults list has no {key} that could be replaced{use}")
    if not options and not there:
        return _unknown_key(key, text, before, loader)
    return _other(error, loader, [text])


def is_global(loader: ConfigLoader, option: str) -> bool:
    """Whether an option changes other nodes of the config, as an experiment does, and has none of its own."""
    found = [source.load_config(option) for source in loader.get_sources() if source.is_config(option)]
    return bool(found) and found[0].header.get("package") == "_global_"


def has_part(loader: ConfigLoader, group: str, option: str, part: str) -> bool:
    """Whether the defaults list of an option, or of one that it extends, has the group ``part``."""
    name = f"{group}/{option}"
    found = [source.load_config(name).config for source in loader.get_sources() if source.is_config(name)]
    for default in cast(DictConfig, found[0]).get("defaults", []) if found else []:
        if isinstance(default, DictConfig):
            if part in default:
                return True
        elif default != "_self_" and has_part(loader, group, default, part):
            return True
    return False


def _other(error: Exception, loader: ConfigLoader, overrides: Sequence[str]) -> Exception:
    if not isinstance(error, MissingConfigException) or not error.missing_cfg_file:
        return Refused(f"{error}".partition("\nConfig search path:")[0].splitlines()[0])
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    if (group, option) in PLUGINS:
        return MissingExtra(f"{group}={option}", *PLUGINS[group, option])
    found = error.options or loader.get_group_options(group)
    options = sorted(name for name in found if not name.startswith("_"))
    added = any(text.startswith(f"+{group}=") for text in overrides)
    return BadValue(f"{'+' * added}{group}" if group else "--config-name", option, " | ".join(options), options)


def _unknown_key(key: str, text: str, before: DictConfig, loader: ConfigLoader) -> Exception:
    parent, _, name = key.rpartition(".")
    owner: Any = OmegaConf.select(before, parent) if parent else None
    if is_target(owner) and name in parameters(locate_target(parent, owner["_target_"])):
        return Refused(f"{text}: no such key yet; use +{text}")
    if parent and owner is None and (choices := loader.get_group_options(parent.replace(".", "/"))):
        return Refused(f"{text}: no {parent} is chosen that could have it; add {parent}={' | '.join(sorted(choices))}")
    keys = [place for place, _, _ in walk(OmegaConf.masked_copy(before, [name for name in before if name != "hydra"]))]
    near = nearest_key(key, [*loader.list_groups(""), *keys])
    add = "" if owner is None else f"; +{text} would add it"
    return Refused(f"{text}: no such key" + (f"; did you mean '{near}'?" if near else add))


def nearest_key(key: str, known: Sequence[str]) -> str | None:
    """The known key nearest to ``key``: one with the same last part, else one with a similar spelling."""
    leaf = key.rpartition(".")[2]
    same_leaf = [candidate for candidate in known if candidate.rpartition(".")[2] == leaf]
    near = get_close_matches(key, same_leaf, n=1, cutoff=0.0) or get_close_matches(key, known, n=1, cutoff=0.6)
    return near[0] if near else None
