"""Strategies that distribute a backbone over processes, in addition to Lightning's."""

from interp_refiner.training.strategy.leave import leave_processes
from interp_refiner.training.strategy.parallelize import gather, parallelize, release
from interp_refiner.training.strategy.sharded import FSDP2, HSDP, SequenceParallel, Sharded
from interp_refiner.training.strategy.ulysses import Ulysses

__all__ = [
    "FSDP2",
    "HSDP",
    "SequenceParallel",
    "Sharded",
    "Ulysses",
    "gather",
    "leave_processes",
    "parallelize",
    "release",
]
