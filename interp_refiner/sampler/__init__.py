"""From keyframes and a trained refiner to a video."""

from interp_refiner.sampler.sampler import Bridge, Hierarchical, OneJump, Sampler, bridge, hierarchical, one_jump

__all__ = ["Bridge", "Hierarchical", "OneJump", "Sampler", "bridge", "hierarchical", "one_jump"]
