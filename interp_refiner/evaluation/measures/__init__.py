"""Metrics: pure functions, the metrics built from them, and the tables that collect their values.

The metrics in :data:`STANDARD` are always measured if the clips allow it, those of ``conf/metric`` on request.
"""

from collections.abc import Container

from interp_refiner.evaluation.measures.clip_features import ClipFeatures, RandomConvFeatures
from interp_refiner.evaluation.measures.clip_table import ClipMetric, ClipTable, FrameMetric
from interp_refiner.evaluation.measures.frechet import FLOOR, Frechet, FrechetDistance, frechet_distance
from interp_refiner.evaluation.measures.image_quality import PSNR, SSIM, psnr, ssim
from interp_refiner.evaluation.measures.keyframe_contract import KeyframeContract, KeyframeReport, keyframe_report
from interp_refiner.evaluation.measures.maze import MazePaths, edge_collisions, endpoint_error, path_length
from interp_refiner.evaluation.measures.metric import SHUFFLED, TRUTH, Batch, Design, Metric, Record, Role, Table
from interp_refiner.evaluation.measures.pretrained import FID, FVD, LPIPS, I3DFeatures, InceptionFeatures
from interp_refiner.evaluation.measures.realism import Realism, difference_energy, energies, laplacian_energy
from interp_refiner.evaluation.measures.squared_error import SquaredError
from interp_refiner.evaluation.measures.st_lpips import STLPIPS
from interp_refiner.evaluation.measures.stochastic import SeveralSamples, energy_score
from interp_refiner.evaluation.measures.vmaf import VMAF, vmaf
from interp_refiner.evaluation.statistics.bootstrap import Bootstrap, paired_bootstrap
from interp_refiner.evaluation.statistics.rank_correlation import rank_correlation
from interp_refiner.training.missing_frame import (
    ErrorByLevel,
    MissingFrameError,
    error_ratio,
    frame_squared_error,
    missing_frame_mse,
)

STANDARD: tuple[type[Metric], ...] = (SquaredError, PSNR, SSIM, MazePaths, Frechet, Realism, KeyframeContract)


def standard(domains: Container[str]) -> list[Metric]:
    """The metrics that are always measured on clips of these domains, in display order."""
    return [metric for metric in (make() for make in STANDARD) if metric.domain in domains]


__all__ = [
    "FID",
    "FLOOR",
    "FVD",
    "LPIPS",
    "PSNR",
    "SHUFFLED",
    "SSIM",
    "STANDARD",
    "STLPIPS",
    "TRUTH",
    "VMAF",
    "Batch",
    "Bootstrap",
    "ClipFeatures",
    "ClipMetric",
    "ClipTable",
    "Design",
    "ErrorByLevel",
    "FrameMetric",
    "Frechet",
    "FrechetDistance",
    "I3DFeatures",
    "InceptionFeatures",
    "KeyframeContract",
    "KeyframeReport",
    "MazePaths",
    "Metric",
    "MissingFrameError",
    "RandomConvFeatures",
    "Realism",
    "Record",
    "Role",
    "SeveralSamples",
    "SquaredError",
    "Table",
    "difference_energy",
    "edge_collisions",
    "endpoint_error",
    "energies",
    "energy_score",
    "error_ratio",
    "frame_squared_error",
    "frechet_distance",
    "keyframe_report",
    "laplacian_energy",
    "missing_frame_mse",
    "paired_bootstrap",
    "path_length",
    "psnr",
    "rank_correlation",
    "ssim",
    "standard",
    "vmaf",
]
