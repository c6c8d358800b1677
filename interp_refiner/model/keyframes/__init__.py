"""Phase 1: the keyframes of a clip from its caption."""

from interp_refiner.model.keyframes.rescaled import Rescaled
from interp_refiner.model.keyframes.source import KeyframeRequest, KeyframeSource

__all__ = ["KeyframeRequest", "KeyframeSource", "Rescaled"]
