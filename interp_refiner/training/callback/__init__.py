"""Training callbacks."""

from interp_refiner.training.callback.ema import EMA
from interp_refiner.training.callback.loss_bound import LossBound
from interp_refiner.training.callback.non_finite import SkipNonFinite
from interp_refiner.training.callback.preemption import EXIT_INTERRUPTED, EXIT_PREEMPTED, Preemption
from interp_refiner.training.callback.profiler import OperationProfiler
from interp_refiner.training.callback.progress import Progress
from interp_refiner.training.callback.throughput import Throughput
from interp_refiner.training.callback.validation_table import ValidationTable
from interp_refiner.training.callback.wandb import wandb_logger
from interp_refiner.training.callback.watchdog import Watchdog

__all__ = [
    "EMA",
    "EXIT_INTERRUPTED",
    "EXIT_PREEMPTED",
    "LossBound",
    "OperationProfiler",
    "Preemption",
    "Progress",
    "SkipNonFinite",
    "Throughput",
    "ValidationTable",
    "Watchdog",
    "wandb_logger",
]
