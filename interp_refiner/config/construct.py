"""Objects from config nodes."""

import re
from collections.abc import Collection
from typing import Any, NoReturn

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from interp_refiner.config.check import foreign, is_ours, parameters
from interp_refiner.config.nodes import home, target_nodes
from interp_refiner.config.refusal import Refused, with_key
from interp_refiner.core import BadValue, MissingExtra


def build(node: DictConfig, **arguments: Any) -> Any:
    """The object that a node describes: ``_target_`` called with the node's values and ``arguments``.

    Values are passed as plain Python lists and dicts. ``arguments`` are passed unchanged (Hydra would treat a dataclass
    among them as a config). They replace the node's entries of the same names, and these entries are not built. A
    ``_partial_`` node is returned as a callable if there are no ``arguments``.

    Raises:
        BadValue: with the config path in front of the argument's name.
        Refused: with the config path: a missing extra, an unreadable path, or arguments that the constructor of another
            package refuses.
    """
    key = node._get_full_key(None)
    try:
        factory = hydra.utils.instantiate(without(node, arguments), _partial_=True, _convert_="all")
    except InstantiationException as error:
        if not isinstance(error.__cause__, Exception):
            raise Refused(f"{key}: {str(error).splitlines()[0]}") from error
        found = re.search(r"^full_key: (.+)$", str(error), re.MULTILINE)
        _raise_with_key(error.__cause__, found.group(1) if found else key, node)
    if node.get("_partial_", False) and not arguments:
        return factory
    try:
        return factory(**arguments)
    except Exception as error:
        _raise_with_key(error, key, node, arguments)


def without(node: DictConfig, names: Collection[str]) -> DictConfig:
    """The node without some of its entries, in its place in the config."""
    if not any(name in node for name in names):
        return node
    rest = OmegaConf.masked_copy(node, [name for name in node if name not in names])
    rest._set_parent(node._get_parent())
    rest._set_key(node._key())
    return rest


def _raise_with_key(error: Exception, omegaconf_key: str, node: DictConfig, given: Collection[str] = ()) -> NoReturn:
    """Raises ``error`` again; a mistake of the user gets its config key, any other error stays unchanged.

    Args:
        error: the error that the constructor raised.
        omegaconf_key: the key of the node, as OmegaConf writes it.
        node: a node of the config.
        given: arguments that do not come from the node.
    """
    root = node._get_root()
    by_key = {n._get_full_key(None): (key, n) for key, n in target_nodes(root)}  # OmegaConf says "a.b0" for "a.b.0"
    key, failed = by_key.get(home(root, omegaconf_key), (omegaconf_key, node))
    if isinstance(error, BadValue):
        raise error if _is_whole(error.name, key, failed, given) else with_key(error, key) from error
    if isinstance(error, MissingExtra | ModuleNotFoundError) or type(error) is ImportError:
        target = str(failed.get("_target_"))
        ours = isinstance(error, MissingExtra) or is_ours(target)
        raise Refused(f"{key}: {str(error).splitlines()[0] if ours else foreign(error, target)}") from error
    if isinstance(error, OSError) and error.filename is not None:
        argument = next((f"{key}.{name!s}" for name, value in failed.items() if value == str(error.filename)), key)
        raise Refused(f"{argument}={error.filename}: {error.strerror}") from error
    of_lightning = type(error).__name__ == "MisconfigurationException"  # by name: Lightning takes seconds to import
    if (isinstance(error, ValueError) or of_lightning) and not is_ours(str(failed.get("_target_"))):
        raise Refused(f"{key}: {error}") from error
    raise error


def _is_whole(name: str, key: str, node: DictConfig, given: Collection[str]) -> bool:
    """Whether an error already names a whole key of the config, that of another part than the node.

    Args:
        name: of the setting.
        key: of the node whose constructor raised it.
        node: the node.
        given: arguments that are not the node's.
    """
    root, (first, dot, _) = node._get_root(), name.partition(".")
    if first not in root or name == key.rpartition(".")[2]:
        return False
    if first in given:
        return True
    own = first in node or first in parameters(hydra.utils.get_object(str(node.get("_target_"))))
    return not own or (bool(dot) and OmegaConf.select(root, name) is not None)
