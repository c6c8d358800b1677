"""Describes a run: its config, its options, its command line, the commands that follow it, and its origin."""

import os
import platform
import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from interp_refiner.config.composition import conf_dir
from interp_refiner.config.nodes import is_target, target_nodes
from interp_refiner.config.refusal import later_process

PACKAGES = ("interp_refiner", "torch", "lightning", "hydra-core", "diffusers")


def print_config(cfg: DictConfig) -> None:
    """Prints the resolved config as YAML on stdout, once for all ranks."""
    if not later_process():
        print(OmegaConf.to_yaml(cfg, resolve=True), end="")


def save_config(cfg: DictConfig, folder: str | Path) -> None:
    """Writes the resolved config to ``config.yaml`` in a run's folder, once for all ranks."""
    if later_process():
        return
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)


def option_name(group: str, node: DictConfig) -> str:
    """The option of a config group that a node comes from: ``dp`` for :class:`DynamicProgramming`.

    It is the file whose ``_target_`` entries, nested ones included, are all in the node; of several such files, the one
    with the most entries. If there is none, the name is that of the node's class.
    """
    found = targets(node)
    said = {path.stem: targets(cast(DictConfig, OmegaConf.load(path))) for path in (conf_dir() / group).glob("*.yaml")}
    matching = {name: lines for name, lines in said.items() if lines and lines <= found}
    if matching:
        return max(sorted(matching), key=lambda name: len(matching[name]))
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(node.get("_target_")).rpartition(".")[2]).lower()


def targets(node: DictConfig) -> set[tuple[str, str]]:
    """The targets of a node and of all nodes below it, as (key below the node, target)."""
    return {(key, str(one["_target_"])) for key, one in [("", node), *target_nodes(node)] if is_target(one)}


def given() -> list[str]:
    """The overrides of this run, after :func:`folders_of_options`; none outside a program."""
    return [*folders_of_options(), *HydraConfig.get().overrides.task] if HydraConfig.initialized() else []


def folders_of_options() -> list[str]:
    """``--config-dir`` and ``hydra.searchpath`` of this run's command line, which a following command needs, too."""
    if not HydraConfig.initialized():
        return []
    hydra, typed = HydraConfig.get(), "command-line"  # where --config-dir comes from
    folders = [text for text in hydra.overrides.hydra if text.lstrip("+").startswith("hydra.searchpath=")]
    return folders + [f"--config-dir={one.path}" for one in hydra.runtime.config_sources if one.provider == typed]


def next_command(program: str, *words: str) -> str:
    """A command to paste into a shell; it names the running Python, because another one may not have this package."""
    return shlex.join([sys.executable, "-m", f"{__name__.partition('.')[0]}.{program}", *words])


def run_metadata() -> dict[str, Any]:
    """The origin of a run, as plain values for ``summary.json``.

    Returns:
        ``command``; ``git_commit`` and ``git_dirty`` (tracked files differ from it), None outside a checkout;
        ``versions`` of Python and of the packages that decide the numbers, torch's with its build (2.11.0+cu130);
        ``device`` and ``hostname``.
    """
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    installed = {name: _version(name) for name in PACKAGES}
    return {
        "command": _command(),
        "git_commit": commit,
        "git_dirty": None if commit is None else bool(changes),
        "versions": {"python": platform.python_version(), **installed, "torch": torch.__version__},
        "device": _device(),
        "hostname": platform.node(),
    }


def _command() -> str:
    """The command line, quoted so that it can be pasted into a shell."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["-m", spec.name.removesuffix(".__main__")] if spec is not None else [sys.argv[0]]
    return shlex.join(["python", *program, *sys.argv[1:]])


def _git(*arguments: str) -> str | None:
    """The output of a git command in this package's checkout; None outside a checkout."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a wheel on the path that was not installed
        return None


def _device() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.machine()} CPU, {cores} cores"
