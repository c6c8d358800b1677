"""From figures to tables and pictures."""

from interp_refiner.evaluation.plots import error_by_gap, paths_on_maps, perception_distortion, temporal_ratios
from interp_refiner.evaluation.report import markdown_report
from interp_refiner.evaluation.results import Evaluation, figure

__all__ = [
    "Evaluation",
    "error_by_gap",
    "figure",
    "markdown_report",
    "paths_on_maps",
    "perception_distortion",
    "temporal_ratios",
]
