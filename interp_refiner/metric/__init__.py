"""How good a refined clip is: torchmetrics classes over pure functions."""

from interp_refiner.metric.missing_frame import MissingFrameError, error_ratio, missing_frame_mse

__all__ = ["MissingFrameError", "error_ratio", "missing_frame_mse"]
