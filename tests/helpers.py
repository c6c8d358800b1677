"""Helpers that several test folders share."""

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch.utils._python_dispatch import TorchDispatchMode

from tests.quick_compose import install as compose_quickly

compose_quickly()  # here, too: the processes of tests have no conftest
CONF = Path(__file__).resolve().parents[1] / "conf"


def group_members(group: str) -> list[str]:
    """The options of a config group, read from its folder so that a new member is tested unlisted."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def place_of(group: str, name: str) -> str:
    """Where an option's values stand in the config: what its file says, else the name of its group."""
    said = re.match(r"# @package (\S+)", (CONF / group / f"{name}.yaml").read_text())
    return said.group(1) if said else group.replace("/", ".")


@lru_cache(maxsize=256)
def _composed(program: str | None, overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(program, list(overrides))


def composed(program: str | None, *overrides: str, **places: Path) -> DictConfig:
    """A program's config; the same overrides are composed once. ``places``: values of ``paths``."""
    cfg = copy.deepcopy(_composed(program, overrides))
    for name, place in places.items():
        cfg.paths[name] = str(place)
    return cfg


def group_config(group: str, name: str, *overrides: str) -> DictConfig:
    """The config of one member of a group; overrides start with the group's name, ``"schedule.k_min=3"``."""
    return OmegaConf.select(composed(None, f"+{group}={name}", *overrides), place_of(group, name))


def build(group: str, name: str, *overrides: str, **arguments: Any) -> Any:
    """One member of a group, instantiated from its config as the entry points do."""
    return instantiate(group_config(group, name, *overrides), _partial_=True, _convert_="all")(**arguments)


class NoHostSync(TorchDispatchMode):
    """Refuses operators whose result, or the shape of it, a host would have to wait for."""

    BANNED = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "is_nonzero", "equal")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.BANNED:
            raise AssertionError(f"aten.{name} waits for the device")
        if name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        ):
            raise AssertionError(f"aten.{name} with a boolean mask waits for the device")
        return func(*args, **(kwargs or {}))


@contextmanager
def cuda_sync_is_an_error() -> Iterator[None]:
    """On a GPU: whatever waits for the device raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
