"""Types that all other folders use: clips, keyframe plans, corrupted clips, derived randomness."""

from interp_refiner.core.clip import Clip
from interp_refiner.core.corrupted import Alternatives, Corrupted
from interp_refiner.core.device import device, peak_flops
from interp_refiner.core.errors import (
    EXIT_INTERRUPTED,
    EXIT_PREEMPTED,
    BadValue,
    DataFault,
    MissingExtra,
    Stopped,
    at_least,
    check_least,
    choice,
    non_negative,
    one_fault,
    positive,
    suggestion,
)
from interp_refiner.core.freezable import AVERAGED, LAST_CHECKPOINT, Freezable, move, save_weights
from interp_refiner.core.hub import fetch, on_hub, refused
from interp_refiner.core.measure import NOTHING, Interval, Measure
from interp_refiner.core.memory import forget_peak_memory, free_memory, keep_freed_memory, peak_memory
from interp_refiner.core.mirror import Reflection
from interp_refiner.core.negative import NegativeEmbedding, load_embedding
from interp_refiner.core.neighbours import Neighbours, neighbours
from interp_refiner.core.plan import KeyframePlan
from interp_refiner.core.rng import Draws, derived_seed
from interp_refiner.core.shapes import frame_mean, masked_mean, per_frame, per_sample, precise, take_frames
from interp_refiner.core.spec import SUPPLIED, UNBOUNDED, ClipSpec, NumLevels
from interp_refiner.core.stored import (
    check_kinds,
    from_stored,
    load_stored,
    load_tensor,
    of_kind,
    parse_stored,
    read_stored,
)
from interp_refiner.core.timing import Mark, median_seconds
from interp_refiner.core.weights import (
    check_folder,
    check_not_original,
    original,
    save_tensors,
    state_faults,
    stored_kinds,
    tensors_digest,
    unreported,
    weight_faults,
    weights_digest,
)

__all__ = [
    "AVERAGED",
    "EXIT_INTERRUPTED",
    "EXIT_PREEMPTED",
    "LAST_CHECKPOINT",
    "NOTHING",
    "SUPPLIED",
    "UNBOUNDED",
    "Alternatives",
    "BadValue",
    "Clip",
    "ClipSpec",
    "Corrupted",
    "DataFault",
    "Draws",
    "Freezable",
    "Interval",
    "KeyframePlan",
    "Mark",
    "Measure",
    "MissingExtra",
    "NegativeEmbedding",
    "Neighbours",
    "NumLevels",
    "Reflection",
    "Stopped",
    "at_least",
    "check_folder",
    "check_kinds",
    "check_least",
    "check_not_original",
    "choice",
    "derived_seed",
    "device",
    "fetch",
    "forget_peak_memory",
    "frame_mean",
    "free_memory",
    "from_stored",
    "keep_freed_memory",
    "load_embedding",
    "load_stored",
    "load_tensor",
    "masked_mean",
    "median_seconds",
    "move",
    "neighbours",
    "non_negative",
    "of_kind",
    "on_hub",
    "one_fault",
    "original",
    "parse_stored",
    "peak_flops",
    "peak_memory",
    "per_frame",
    "per_sample",
    "positive",
    "precise",
    "read_stored",
    "refused",
    "save_tensors",
    "save_weights",
    "state_faults",
    "stored_kinds",
    "suggestion",
    "take_frames",
    "tensors_digest",
    "unreported",
    "weight_faults",
    "weights_digest",
]
