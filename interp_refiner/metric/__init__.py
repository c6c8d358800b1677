"""How good a refined clip is: torchmetrics classes over pure functions."""

from interp_refiner.metric.bootstrap import Bootstrap, Interval, paired_bootstrap
from interp_refiner.metric.clip_table import ClipTable, Record
from interp_refiner.metric.error_table import ErrorTable, FrameTable, PixelTable
from interp_refiner.metric.image_quality import psnr, ssim
from interp_refiner.metric.missing_frame import MissingFrameError, error_ratio, frame_squared_error, missing_frame_mse

__all__ = [
    "Bootstrap",
    "ClipTable",
    "ErrorTable",
    "FrameTable",
    "Interval",
    "MissingFrameError",
    "PixelTable",
    "Record",
    "error_ratio",
    "frame_squared_error",
    "missing_frame_mse",
    "paired_bootstrap",
    "psnr",
    "ssim",
]
