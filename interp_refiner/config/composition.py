"""Composes a program's config by Hydra's public interface, and explains a failure in one line."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from interp_refiner.config.check import locate_target
from interp_refiner.config.command_line import parsed, quoted
from interp_refiner.config.hints import rules
from interp_refiner.config.nodes import home, is_target, walk, without
from interp_refiner.config.refusal import Refused
from interp_refiner.core import BadValue, MissingExtra

NOT_COMPOSED = (HydraException, OmegaConfBaseException, ValueError)  # ValueError: a group set to a number or to null
PLUGINS = {  # options of Hydra plugins: the plugin, and the extra that installs it
    ("hydra/launcher", "joblib"): ("hydra-joblib-launcher", "sweep"),
    ("hydra/sweeper", "optuna"): ("hydra-optuna-sweeper", "sweep"),
    ("hydra/launcher", "submitit_slurm"): ("hydra-submitit-launcher", "slurm"),
    ("hydra/launcher", "submitit_local"): ("hydra-submitit-launcher", "slurm"),
}


def conf_dir() -> Path:
    """The config groups: inside the package where a wheel was installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next((path for path in (package / "conf", package.parent / "conf") if path.is_dir()), package / "conf")


def composed(folder: Path, config_name: str, *overrides: str) -> DictConfig:
    """Composes a config, including its node ``hydra``, without affecting a program that runs in this process.

    Raises:
        BadValue, MissingExtra, Refused: naming the first wrong override and what is allowed.
    """
    for text in overrides:
        check_one_option(folder, text)
    running, job = GlobalHydra.instance(), JobRuntime.instance().get("name")
    before, running.hydra = running.hydra, None
    try:
        with hydra.initialize_config_dir(str(folder), version_base="1.3", job_name=config_name):
            composer = Composer(config_name, GlobalHydra.instance().config_loader())
            try:
                cfg = composer.compose(overrides)
            except NOT_COMPOSED as error:
                raise composer.explained(error, overrides) from None
            composer.check_components(overrides, cfg)
            return cfg
    finally:
        running.hydra = before
        JobRuntime.instance().set("name", job)


def check_one_option(folder: Path, text: str) -> None:
    """Refuses an option that is set as a value, and a list for a group whose options each build one object.

    Groups such as loggers, whose options can be combined, take lists.
    """
    key, _, value = text.partition("=")
    name = key.lstrip("+")
    group = name.replace(".", "/")
    if group != name and (folder / group / f"{value}.yaml").is_file():
        raise Refused(f"{text}: {value} is an option; use {group}={value}")
    files = sorted((folder / name.partition("@")[0]).glob("*.yaml")) if value.startswith("[") else []
    if any("_target_" in cast(DictConfig, OmegaConf.load(file)) for file in files):
        options = [file.stem for file in files]
        raise BadValue(key, value, f"one of {' | '.join(options)}, not a list", options)


@dataclass
class Composer:
    """Composes one primary config in Hydra's context, from the config groups of a loader."""

    config_name: str
    loader: ConfigLoader

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        return hydra.compose(self.config_name, list(overrides), return_hydra_config=True)

    def options(self, group: str) -> list[str]:
        """The options of a config group; none where there is no such group."""
        return sorted(self.loader.get_group_options(group))

    def file(self, option: str) -> ConfigResult | None:
        """The file of an option, such as ``schedule/dp``."""
        return next((one.load_config(option) for one in self.loader.get_sources() if one.is_config(option)), None)

    def package(self, option: str) -> str | None:
        """The key at which the values of an option stand, if its file says one."""
        file = self.file(option)
        return None if file is None else file.header.get("package")

    def check_components(self, overrides: Sequence[str], cfg: DictConfig) -> None:
        """Refuses plain values in place of components, given the config composed with them.

        Raises:
            BadValue: naming the options of the component's group, if it has one, and its keys.
        """
        plain = [text for text in overrides if sets_a_component(text, cfg)]
        before = self.compose([text for text in overrides if text not in plain]) if plain else cfg
        for text in plain:
            key, value = parsed(text).key_or_group, text.partition("=")[2]
            if not is_target(node := OmegaConf.select(before, key)):
                continue
            place, choices = home(node), before.hydra.runtime.choices
            said = (group for group, option in choices.items() if self.package(f"{group}/{option}") == place)
            group = next(said, place.replace(".", "/"))
            options, keys = self.options(group), [name for name in map(str, node) if name[0] != "_"]
            ways = [f"{group}=<{' | '.join(options)}>"] * bool(options)
            ways += [f"{place}.<{' | '.join(keys)}>=<value>"] * bool(keys)
            raise BadValue(key, value, f"a component, not a plain value; set {' or '.join(ways) or f'{key}=null'}")

    def explained(self, error: Exception, overrides: Sequence[str]) -> Exception:
        """The mistake behind an error of :meth:`compose`: the wrong override, the fault, and how to fix it.

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
        for item in sorted(items, key=lambda item: not self.options(item.key_or_group)):
            if (text := str(item.input_line)) not in sound:
                try:
                    before = before or self.compose(sound)
                    before, sound = self.compose([*sound, text]), [*sound, text]
                except NOT_COMPOSED as found:
                    return self._unsound(item, found, before)
        return self._other(error, overrides)

    def _unsound(self, item: Override, error: Exception, before: DictConfig | None) -> Exception:
        """What is wrong with an override, given the config before it."""
        text, key = str(item.input_line), item.key_or_group
        options = self.options(key)
        if before is None or (isinstance(error, MissingConfigException) and error.missing_cfg_file):
            return self._other(error, [text])
        now = OmegaConf.select(before, key, throw_on_resolution_failure=False)
        there = now is not None
        if item.is_sweep_override():
            values, how = text.partition("=")[2], ""
            if item.is_choice_sweep() and "(" not in values and not options:
                how = f"; a list is written {key}=[{values}]" if isinstance(now, ListConfig) else how
                how = f'; a value with a comma is written {key}="{quoted(values)}"' if isinstance(now, str) else how
            return Refused(f"{text}: a sweep needs --multirun{how}")
        value = None if item.is_delete() else item.value()
        if options and not item.is_delete() and isinstance(value, int | float | dict | None):
            none = "" if there else f"; for none, leave {key} out"
            return Refused(f"{text}: expected {' | '.join(options)}{none}")
        if item.is_add() and (there or options):
            return Refused(f"{text}: already in the config; to replace it, use {text.lstrip('+')}")
        if options and isinstance(value, str):
            return self._not_chosen(key, value, text)
        return self._other(error, [text]) if options or there else self._unknown_key(key, text, before)

    def _not_chosen(self, group: str, option: str, text: str) -> Exception:
        """Why an option cannot be chosen: the defaults list does not have its group."""
        parent, _, part = group.rpartition("/")
        if parent and (whole := self.options(parent)):
            having = [name for name in whole if self._has_part(f"{parent}/{name}", part)] or whole
            return Refused(f"{text}: no {parent} that has {part} is chosen; add {parent}=<{' | '.join(having)}>")
        changes_others = self.package(f"{group}/{option}") == "_global_"  # as an experiment does
        use = f"; use +{text}" if changes_others else ""
        return Refused(f"{text}: the defaults list has no {group} that could be replaced{use}")

    def _has_part(self, option: str, part: str) -> bool:
        """Whether the defaults list of an option, or of one that it extends, has the group ``part``."""
        file = self.file(option)
        for default in cast(DictConfig, file.config).get("defaults", []) if file else []:
            if isinstance(default, DictConfig):
                if part in default:
                    return True
            elif default != "_self_" and self._has_part(f"{option.rpartition('/')[0]}/{default}", part):
                return True
        return False

    def _unknown_key(self, key: str, text: str, before: DictConfig) -> Exception:
        """What may be meant by a key that the config does not have."""
        parent, _, name = key.rpartition(".")
        owner: Any = OmegaConf.select(before, parent) if parent else None
        if is_target(owner) and name in rules(locate_target(parent, owner["_target_"])):
            return Refused(f"{text}: no such key yet; use +{text}")
        if parent and owner is None and (choices := self.options(parent.replace(".", "/"))):
            return Refused(f"{text}: no {parent} is chosen; add {parent}={' | '.join(choices)}")
        keys = [place for place, _, _ in walk(without(before, "hydra"))]
        near = nearest_key(key, [*self.loader.list_groups(""), *keys])
        add = "" if owner is None else f"; +{text} would add it"
        return Refused(f"{text}: no such key" + (f"; did you mean '{near}'?" if near else add))

    def _other(self, error: Exception, overrides: Sequence[str]) -> Exception:
        """An option that does not exist, or Hydra's own words."""
        if not isinstance(error, MissingConfigException) or not error.missing_cfg_file:
            return Refused(f"{error}".partition("\nConfig search path:")[0].splitlines()[0])
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        if (group, option) in PLUGINS:
            return MissingExtra(f"{group}={option}", *PLUGINS[group, option])
        options = sorted(name for name in error.options or self.options(group) if not name.startswith("_"))
        added = any(text.startswith(f"+{group}=") for text in overrides)
        return BadValue(f"{'+' * added}{group}" if group else "--config-name", option, " | ".join(options), options)


def sets_a_component(text: str, cfg: DictConfig) -> bool:
    """Whether an override, with which ``cfg`` is composed, sets a component to a plain value; null removes it."""
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


def nearest_key(key: str, known: Sequence[str]) -> str | None:
    """The known key nearest to ``key``: one with the same last part, else one with a similar spelling."""
    leaf = key.rpartition(".")[2]
    same_leaf = [candidate for candidate in known if candidate.rpartition(".")[2] == leaf]
    near = get_close_matches(key, same_leaf, n=1, cutoff=0.0) or get_close_matches(key, known, n=1, cutoff=0.6)
    return near[0] if near else None
