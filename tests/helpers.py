"""What several test folders share."""

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

CONF = Path(__file__).resolve().parents[1] / "conf"


def group_members(group: str) -> list[str]:
    """The options of a config group, read from its folder so that a new member is tested unlisted."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def group_config(group: str, name: str, *overrides: str) -> DictConfig:
    """The config of one member of a group; overrides start with the group's name, ``"schedule.k_min=3"``."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=[f"+{group}={name}", *overrides])[group]


def build(group: str, name: str, *overrides: str, **arguments: Any) -> Any:
    """One member of a group, instantiated from its config as the entry points do."""
    return instantiate(group_config(group, name, *overrides), _convert_="all", **arguments)
