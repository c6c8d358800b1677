"""The forward process: keyframes + interpolation (+ noise)."""

from interp_refiner.forward.corruption.bridge_time import BridgeTime, FullyCorrupted, LogitNormal, Uniform
from interp_refiner.forward.corruption.content import ClipContent
from interp_refiner.forward.corruption.corruption import TRAIN_STREAM, Corruption
from interp_refiner.forward.corruption.drawn import Drawn
from interp_refiner.forward.corruption.given import Given, GivenAtRandom, GivenFile, GivenFrames, NoGiven
from interp_refiner.forward.corruption.noise import (
    BrownianBridge,
    Disagreement,
    Gauss,
    Noiseless,
    NoiseProfile,
    Triangular,
)
from interp_refiner.forward.corruption.segment_cost import segment_cost

__all__ = [
    "TRAIN_STREAM",
    "BridgeTime",
    "BrownianBridge",
    "ClipContent",
    "Corruption",
    "Disagreement",
    "Drawn",
    "FullyCorrupted",
    "Gauss",
    "Given",
    "GivenAtRandom",
    "GivenFile",
    "GivenFrames",
    "LogitNormal",
    "NoGiven",
    "NoiseProfile",
    "Noiseless",
    "Triangular",
    "Uniform",
    "segment_cost",
]
