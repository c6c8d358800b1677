"""From keyframes and a trained refiner to a video."""

from interp_refiner.model.sampler.guidance import ClassifierFree, CleanEstimate, Guidance, NoGuidance, classifier_free
from interp_refiner.model.sampler.sampler import Bridge, Hierarchical, OneJump, Sampler, bridge, hierarchical, one_jump

__all__ = [
    "Bridge",
    "ClassifierFree",
    "CleanEstimate",
    "Guidance",
    "Hierarchical",
    "NoGuidance",
    "OneJump",
    "Sampler",
    "bridge",
    "classifier_free",
    "hierarchical",
    "one_jump",
]
