"""Samplers: from keyframes and a trained refiner to a video."""

from interp_refiner.model.sampler.bridge import Bridge, Step, bridge, steps_along
from interp_refiner.model.sampler.consistency import Consistency, consistency
from interp_refiner.model.sampler.guidance import ClassifierFree, CleanEstimate, Guidance, NoGuidance, classifier_free
from interp_refiner.model.sampler.sampler import Hierarchical, OneJump, Sampler, check_views, hierarchical, one_jump
from interp_refiner.model.sampler.spacing import Arc, Even, Spacing
from interp_refiner.model.sampler.views import MirroredViews, OneView, Views, self_ensemble

__all__ = [
    "Arc",
    "Bridge",
    "ClassifierFree",
    "CleanEstimate",
    "Consistency",
    "Even",
    "Guidance",
    "Hierarchical",
    "MirroredViews",
    "NoGuidance",
    "OneJump",
    "OneView",
    "Sampler",
    "Spacing",
    "Step",
    "Views",
    "bridge",
    "check_views",
    "classifier_free",
    "consistency",
    "hierarchical",
    "one_jump",
    "self_ensemble",
    "steps_along",
]
