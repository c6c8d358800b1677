"""What happens around training: averaging, figures, pictures."""

from interp_refiner.callback.ema import CHECKPOINT_KEY, EMA
from interp_refiner.callback.non_finite import SkipNonFinite
from interp_refiner.callback.preemption import EXIT_INTERRUPTED, EXIT_PREEMPTED, Preemption
from interp_refiner.callback.progress import Progress
from interp_refiner.callback.throughput import Throughput
from interp_refiner.callback.validation_table import ValidationTable, level_rows
from interp_refiner.callback.validation_video import LABELS, ValidationVideo, decode_rows
from interp_refiner.callback.wandb import wandb_logger
from interp_refiner.callback.watchdog import Watchdog

__all__ = [
    "CHECKPOINT_KEY",
    "EMA",
    "EXIT_INTERRUPTED",
    "EXIT_PREEMPTED",
    "LABELS",
    "Preemption",
    "Progress",
    "SkipNonFinite",
    "Throughput",
    "ValidationTable",
    "ValidationVideo",
    "Watchdog",
    "decode_rows",
    "level_rows",
    "wandb_logger",
]
