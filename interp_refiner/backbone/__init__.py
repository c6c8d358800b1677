"""Networks that refine: from a corrupted clip to the objective's quantity."""

from interp_refiner.backbone.backbone import Backbone
from interp_refiner.backbone.conditioning import (
    BracketingKeyframes,
    Global,
    KeyframeChannels,
    MaskedKeyframes,
    PerFrame,
    Timestep,
)
from interp_refiner.backbone.dropout import DroppedKeyframes
from interp_refiner.backbone.lora import LoRA, is_adapter, name_without
from interp_refiner.backbone.recomputation import (
    FullRecomputation,
    NoRecomputation,
    Recomputation,
    SelectiveRecomputation,
)
from interp_refiner.backbone.spread import Spread
from interp_refiner.backbone.trajectory import Trajectory
from interp_refiner.backbone.wan import Wan

__all__ = [
    "Backbone",
    "BracketingKeyframes",
    "DroppedKeyframes",
    "FullRecomputation",
    "Global",
    "KeyframeChannels",
    "LoRA",
    "MaskedKeyframes",
    "NoRecomputation",
    "PerFrame",
    "Recomputation",
    "SelectiveRecomputation",
    "Spread",
    "Timestep",
    "Trajectory",
    "Wan",
    "is_adapter",
    "name_without",
]
