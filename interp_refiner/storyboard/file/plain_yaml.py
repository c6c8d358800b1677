"""Strict YAML and JSON: ``1:30`` is not a number, ``010`` is ten, and a duplicate key is an error."""

import json
import re
from typing import Any, ClassVar

import yaml

INT, FLOAT, TIMESTAMP = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))
DECIMAL = re.compile(r"[-+]?[0-9]+$")
REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$")


class PlainLoader(yaml.SafeLoader):
    """Numbers as YAML 1.2 has them (its core schema); PyYAML reads 1.1, where ``1:30`` is 90 and ``010`` is 8."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in found if tag not in (INT, FLOAT, TIMESTAMP)]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        written = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := next((key for key in written if written.count(key) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


PlainLoader.add_implicit_resolver(INT, DECIMAL, list("-+0123456789"))
PlainLoader.add_implicit_resolver(FLOAT, REAL, list("-+.0123456789"))
PlainLoader.add_constructor(INT, lambda loader, node: int(loader.construct_scalar(node)))


def read_yaml(text: str) -> Any:
    """The content of a YAML document; raises ``yaml.YAMLError``."""
    return yaml.load(text, PlainLoader)


def read_json(text: str) -> Any:
    """The content of a JSON document; raises ``ValueError``."""
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise ValueError(f"the key {twice} occurs twice")
    return dict(pairs)
