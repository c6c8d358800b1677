"""The name of a config node's option on the command line."""

import re
from typing import cast

from omegaconf import DictConfig, OmegaConf

from interp_refiner.config.launch import conf_dir
from interp_refiner.config.nodes import target_nodes


def option_name(group: str, node: DictConfig) -> str:
    """The option of a config group that a node comes from: ``dp`` for :class:`DynamicProgramming`.

    It is the file whose ``_target_`` lines, nested ones included, are all in the node. Of several such files, it is the
    one with the most lines. A node of a class without a file is named after its class.
    """
    found = targets(node)
    said = {path.stem: targets(cast(DictConfig, OmegaConf.load(path))) for path in (conf_dir() / group).glob("*.yaml")}
    matching = {name: lines for name, lines in said.items() if lines and lines <= found}
    if matching:
        return max(sorted(matching), key=lambda name: len(matching[name]))
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(node.get("_target_")).rpartition(".")[2]).lower()


def targets(node: DictConfig) -> set[tuple[str, str]]:
    """The targets of a node and of all nodes below it, as (key below the node, target)."""
    own = {("", str(node._target_))} if "_target_" in node else set()
    return own | {(key, str(inner._target_)) for key, inner in target_nodes(OmegaConf.masked_copy(node, list(node)))}
