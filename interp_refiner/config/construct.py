"""Objects from config nodes."""

import functools
from collections.abc import Collection
from typing import Any, NoReturn

from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf

from interp_refiner.config.check import check_node, foreign, is_ours, locate_target, target_call
from interp_refiner.config.hints import rules
from interp_refiner.config.nodes import home, is_partial, is_target, plain
from interp_refiner.config.refusal import Refused, with_key
from interp_refiner.core import BadValue, MissingExtra


def build(node: DictConfig, **arguments: Any) -> Any:
    """The object that a node describes: ``_target_`` called with the node's values and ``arguments``.

    Lists and dicts of the config are passed as Python's own, and nodes with a ``_target_`` as what they build (with
    ``_recursive_: false`` as dicts). ``arguments`` are passed unchanged. They replace the node's entries of the same
    names, and these entries are not built. A ``_partial_`` node is returned as a callable if there are no
    ``arguments``.

    Raises:
        BadValue: with the config path in front of the argument's name: the constructor, or :func:`check_node`.
        Refused: with the config path: see :func:`check_node`, a missing extra, an unreadable path, or arguments that
            the constructor of another package refuses.
    """
    if not is_target(node):
        raise Refused(f"{home(node) if isinstance(node, DictConfig) else 'config'}: {node} is not a node with _target_")
    key, value_of = home(node), _built if node.get("_recursive_", True) else plain
    values = {name: value_of(value) for name, value in check_node(key, node, arguments).items()}
    call = functools.partial(target_call(key, node["_target_"]), *value_of(node.get("_args_", [])), **values)
    if is_partial(node) and not arguments:
        return call
    try:
        return call(**arguments)
    except Exception as error:
        _raise_with_key(error, key, node, arguments)


def _built(value: Any) -> Any:
    """A value of a config with all its nodes built."""
    if is_target(value):
        return build(value)
    if isinstance(value, DictConfig):
        return {name: _built(item) for name, item in value.items()}
    return [_built(item) for item in value] if isinstance(value, ListConfig) else value


def _raise_with_key(error: Exception, key: str, node: DictConfig, given: Collection[str]) -> NoReturn:
    """Raises the error of a node's constructor again: a mistake of the user with its key, any other as it is."""
    target = str(node["_target_"])
    if isinstance(error, BadValue):
        raise error if _is_whole(error.name, key, node, given) else with_key(error, key) from error
    if isinstance(error, MissingExtra | ModuleNotFoundError) or type(error) is ImportError:
        ours = isinstance(error, MissingExtra) or is_ours(target)
        raise Refused(f"{key}: {str(error).splitlines()[0] if ours else foreign(error, target)}") from error
    if isinstance(error, OSError) and error.filename is not None:
        argument = next((f"{key}.{name!s}" for name, value in node.items() if value == str(error.filename)), key)
        raise Refused(f"{argument}={error.filename}: {error.strerror}") from error
    of_lightning = type(error).__name__ == "MisconfigurationException"  # by name: Lightning takes seconds to import
    theirs = (isinstance(error, ValueError | TypeError | OverflowError) or of_lightning) and not is_ours(target)
    if theirs or isinstance(error, InstantiationException):  # the latter is Hydra's own objection to the call
        raise Refused(f"{key}: {error}") from error
    raise error


def _is_whole(name: str, key: str, node: DictConfig, given: Collection[str]) -> bool:
    """Whether the name in an error is already a whole key of the config: it belongs to another part than the node.

    An argument that the program has given belongs to another part, too.
    """
    root, (first, dot, _) = node._get_root(), name.partition(".")
    if first not in root or name == key.rpartition(".")[2]:
        return False
    own = first in node or first in rules(locate_target(key, node["_target_"]))
    return first in given or not own or (bool(dot) and OmegaConf.select(root, name) is not None)
