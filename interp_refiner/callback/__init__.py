"""What happens around training: averaging, figures, pictures."""

from interp_refiner.callback.ema import EMA
from interp_refiner.callback.throughput import Throughput
from interp_refiner.callback.validation_table import ValidationTable, level_rows

__all__ = ["EMA", "Throughput", "ValidationTable", "level_rows"]
