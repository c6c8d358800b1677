"""Checkpoints that survive what happens in days: written whole or not at all, checked before they are used."""

from interp_refiner.checkpoint.atomic import AtomicCheckpointIO, write_whole
from interp_refiner.checkpoint.rolling import RollingCheckpoint
from interp_refiner.checkpoint.whole import LAST, fault, last_whole, resume_path

__all__ = ["LAST", "AtomicCheckpointIO", "RollingCheckpoint", "fault", "last_whole", "resume_path", "write_whole"]
