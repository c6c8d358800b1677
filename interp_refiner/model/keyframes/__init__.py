"""Phase 1: the keyframes of a clip from its caption."""

from interp_refiner.model.keyframes.choice import BestOf, Choice, KeyframeScorer
from interp_refiner.model.keyframes.flow import FlowTime, KeyframeFlow, Keyframes, Preconditioned, Velocity
from interp_refiner.model.keyframes.generated import GeneratedKeyframes
from interp_refiner.model.keyframes.rescaled import Rescaled
from interp_refiner.model.keyframes.sampler import Euler, Heun, KeyframeSampler, OwnSampler
from interp_refiner.model.keyframes.source import KeyframeRequest, KeyframeSource, no_sampler

__all__ = [
    "BestOf",
    "Choice",
    "Euler",
    "FlowTime",
    "GeneratedKeyframes",
    "Heun",
    "KeyframeFlow",
    "KeyframeRequest",
    "KeyframeSampler",
    "KeyframeScorer",
    "KeyframeSource",
    "Keyframes",
    "OwnSampler",
    "Preconditioned",
    "Rescaled",
    "Velocity",
    "no_sampler",
]
