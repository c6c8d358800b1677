"""Checkpoints: written atomically, and checked before use."""

from interp_refiner.training.checkpoint.atomic import AtomicCheckpointIO
from interp_refiner.training.checkpoint.exported import (
    INDEX,
    SHIPPED,
    SHIPPED_CAMERA,
    SHIPPED_FOLDER,
    SHIPPED_KEYFRAMES,
    SHIPPED_ONE_STEP,
    is_exported,
    located,
    read_index,
    stored_spec,
)
from interp_refiner.training.checkpoint.partial import write_whole
from interp_refiner.training.checkpoint.rolling import RollingCheckpoint
from interp_refiner.training.checkpoint.run_folder import (
    CONFIG_FILE,
    FAKE,
    LAST_CHECKPOINT,
    NETWORK,
    PARTS,
    blaming,
    find_checkpoint,
    load_weights,
    read_config,
    read_weights,
    start_from,
    take_weights,
)
from interp_refiner.training.checkpoint.same_run import check_same_run, check_state
from interp_refiner.training.checkpoint.sharded import (
    OPTIMIZER,
    REST,
    by_name,
    is_sharded,
    read_checkpoint,
    size_of,
    stored_names,
    write_sharded,
)
from interp_refiner.training.checkpoint.size_options import size_options
from interp_refiner.training.checkpoint.stored_adapters import with_stored_adapters
from interp_refiner.training.checkpoint.whole import LAST, fault, last_whole, resume_path

__all__ = [
    "CONFIG_FILE",
    "FAKE",
    "INDEX",
    "LAST",
    "LAST_CHECKPOINT",
    "NETWORK",
    "OPTIMIZER",
    "PARTS",
    "REST",
    "SHIPPED",
    "SHIPPED_CAMERA",
    "SHIPPED_FOLDER",
    "SHIPPED_KEYFRAMES",
    "SHIPPED_ONE_STEP",
    "AtomicCheckpointIO",
    "RollingCheckpoint",
    "blaming",
    "by_name",
    "check_same_run",
    "check_state",
    "fault",
    "find_checkpoint",
    "is_exported",
    "is_sharded",
    "last_whole",
    "load_weights",
    "located",
    "read_checkpoint",
    "read_config",
    "read_index",
    "read_weights",
    "resume_path",
    "size_of",
    "size_options",
    "start_from",
    "stored_names",
    "stored_spec",
    "take_weights",
    "with_stored_adapters",
    "write_sharded",
    "write_whole",
]
