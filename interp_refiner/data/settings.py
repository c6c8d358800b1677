"""Fingerprints of the settings that data were made with, and their differences."""

import json
from hashlib import blake2b
from typing import Any


def fingerprint(settings: dict[str, Any]) -> str:
    """A hash of the settings: twelve hexadecimal digits."""
    return blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=6).hexdigest()


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The settings that differ, such as ``"cut.fps=8 instead of 16"``."""
    old, new = _flat(found), _flat(wanted)
    values = [(key, old.get(key), new.get(key)) for key in sorted({*old, *new})]
    return ", ".join(f"{key}={before} instead of {after}" for key, before, after in values if before != after)


def _flat(settings: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested keys joined by dots: ``{"cut": {"fps": 8}}`` becomes ``{"cut.fps": 8}``."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """The values with tuples as lists, as JSON returns them."""
    return json.loads(json.dumps(values))
