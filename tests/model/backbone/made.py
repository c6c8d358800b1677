"""Backbones for tests; all settings of their parts are arguments."""

from dataclasses import fields
from typing import Any

from interp_refiner.core import ClipSpec
from interp_refiner.model.backbone import (
    LTX,
    Backbone,
    Blocks,
    Conditioning,
    Factorised,
    FactorisedSize,
    Interface,
    LTXSize,
    MaskedKeyframes,
    Trajectory,
    TrajectorySize,
    Wan,
    WanSize,
)

SIZES: dict[type[Backbone], type] = {Wan: WanSize, LTX: LTXSize, Factorised: FactorisedSize, Trajectory: TrajectorySize}


def made(kind: type[Backbone], spec: ClipSpec, **settings: Any) -> Any:
    """A backbone for clips of ``spec``; ``settings`` of its own stay as they are."""
    if kind in (Wan, LTX):
        settings = {"keyframe_channels": MaskedKeyframes(), **settings}

    def part(of: type, **known: Any) -> Any:
        return of(**known, **{f.name: settings.pop(f.name) for f in fields(of) if f.name in settings})

    parts = {"interface": part(Interface, spec=spec), "size": part(SIZES[kind]), "conditioning": part(Conditioning)}
    if kind is Wan:
        parts["blocks"] = part(Blocks)
    return kind(**parts, **settings)
