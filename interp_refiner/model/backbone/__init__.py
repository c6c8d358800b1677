"""Networks that refine: from a corrupted clip to the objective's quantity."""

from interp_refiner.model.backbone.backbone import Backbone
from interp_refiner.model.backbone.conditioning import (
    BracketingKeyframes,
    Global,
    KeyframeChannels,
    MaskedKeyframes,
    PerFrame,
    Timestep,
)
from interp_refiner.model.backbone.dropout import DroppedKeyframes
from interp_refiner.model.backbone.factorised import Factorised
from interp_refiner.model.backbone.lora import LoRA, is_adapter, name_without
from interp_refiner.model.backbone.lora_file import Adapter, Naming, write_adapters
from interp_refiner.model.backbone.recomputation import (
    FullRecomputation,
    NoRecomputation,
    Recomputation,
    SelectiveRecomputation,
)
from interp_refiner.model.backbone.shown import Shown
from interp_refiner.model.backbone.spread import Spread
from interp_refiner.model.backbone.trajectory import Trajectory
from interp_refiner.model.backbone.wan import Wan

__all__ = [
    "Adapter",
    "Backbone",
    "BracketingKeyframes",
    "DroppedKeyframes",
    "Factorised",
    "FullRecomputation",
    "Global",
    "KeyframeChannels",
    "LoRA",
    "MaskedKeyframes",
    "Naming",
    "NoRecomputation",
    "PerFrame",
    "Recomputation",
    "SelectiveRecomputation",
    "Shown",
    "Spread",
    "Timestep",
    "Trajectory",
    "Wan",
    "is_adapter",
    "name_without",
    "write_adapters",
]
