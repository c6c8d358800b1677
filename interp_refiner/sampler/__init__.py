"""From keyframes and a trained refiner to a video."""

from interp_refiner.sampler.sampler import (
    Bridge,
    CleanEstimate,
    Hierarchical,
    OneJump,
    Sampler,
    bridge,
    hierarchical,
    one_jump,
)

__all__ = ["Bridge", "CleanEstimate", "Hierarchical", "OneJump", "Sampler", "bridge", "hierarchical", "one_jump"]
