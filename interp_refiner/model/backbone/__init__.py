"""Backbones: networks that map a corrupted clip to the output that the objective interprets."""

from interp_refiner.model.backbone.backbone import Backbone, Interface
from interp_refiner.model.backbone.conditioning import (
    BracketingKeyframes,
    Conditioning,
    Global,
    KeyframeChannels,
    MaskedKeyframes,
    PerFrame,
    Timestep,
)
from interp_refiner.model.backbone.convolutions import Convolutions
from interp_refiner.model.backbone.dropout import DroppedKeyframes
from interp_refiner.model.backbone.factorised import Factorised, FactorisedSize
from interp_refiner.model.backbone.lora import LoRA, adapted_layers, bases, is_adapter, name_without
from interp_refiner.model.backbone.lora_file import Adapter, Naming, write_adapters
from interp_refiner.model.backbone.ltx import LTX, LTXSize
from interp_refiner.model.backbone.recomputation import (
    FullRecomputation,
    NoRecomputation,
    Recomputation,
    SelectiveRecomputation,
)
from interp_refiner.model.backbone.run_block import Blocks
from interp_refiner.model.backbone.shown import Shown
from interp_refiner.model.backbone.spread import Spread
from interp_refiner.model.backbone.trajectory import MapView, Trajectory, TrajectorySize
from interp_refiner.model.backbone.wan import Wan
from interp_refiner.model.backbone.wan_size import WanSize

__all__ = [
    "LTX",
    "Adapter",
    "Backbone",
    "Blocks",
    "BracketingKeyframes",
    "Conditioning",
    "Convolutions",
    "DroppedKeyframes",
    "Factorised",
    "FactorisedSize",
    "FullRecomputation",
    "Global",
    "Interface",
    "KeyframeChannels",
    "LTXSize",
    "LoRA",
    "MapView",
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
    "TrajectorySize",
    "Wan",
    "WanSize",
    "adapted_layers",
    "bases",
    "is_adapter",
    "name_without",
    "write_adapters",
]
