"""Settings that data were made with: told apart by a few digits, and what differs."""

import json
from hashlib import blake2b
from typing import Any


def fingerprint(settings: dict[str, Any]) -> str:
    """Twelve hexadecimal digits that tell settings apart."""
    return blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=6).hexdigest()


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The settings in which two fingerprints differ, ``"cut.fps=8 instead of 16"``."""
    old, new = _flat(found), _flat(wanted)
    values = [(key, old.get(key), new.get(key)) for key in sorted({*old, *new})]
    return ", ".join(f"{key}={before} instead of {after}" for key, before, after in values if before != after)


def _flat(settings: dict[str, Any], above: str = "") -> dict[str, Any]:
    """``{"cut": {"fps": 8}}`` as ``{"cut.fps": 8}``."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Tuples as the lists that JSON makes of them."""
    return json.loads(json.dumps(values))
