"""How good a refined clip is: torchmetrics classes over pure functions."""

from interp_refiner.evaluation.measures.bootstrap import Bootstrap, Interval, paired_bootstrap
from interp_refiner.evaluation.measures.chosen import fid_table, fvd_table, lpips_table, st_lpips_table, vmaf_table
from interp_refiner.evaluation.measures.clip_features import ClipFeatures, RandomConvFeatures
from interp_refiner.evaluation.measures.clip_table import ClipTable, Record
from interp_refiner.evaluation.measures.controls import (
    nearest_keyframe_copy,
    noise_of_its_size,
    shuffled_keyframes,
)
from interp_refiner.evaluation.measures.error_table import ErrorTable, FrameMeasure, FrameTable, ScoreTable
from interp_refiner.evaluation.measures.frechet import FrechetDistance, frechet_distance
from interp_refiner.evaluation.measures.frechet_by_level import FrechetByLevel
from interp_refiner.evaluation.measures.image_quality import psnr, ssim
from interp_refiner.evaluation.measures.keyframe_contract import KeyframeContract, KeyframeReport, keyframe_report
from interp_refiner.evaluation.measures.maze import MazeScores, edge_collisions, endpoint_error, path_length
from interp_refiner.evaluation.measures.pretrained import LPIPS, I3DFeatures, InceptionFeatures
from interp_refiner.evaluation.measures.rank_correlation import rank_correlation
from interp_refiner.evaluation.measures.realism import Realism, difference_energy, energies, laplacian_energy
from interp_refiner.evaluation.measures.st_lpips import STLPIPS
from interp_refiner.evaluation.measures.stochastic import StochasticScores, energy_score
from interp_refiner.evaluation.measures.vmaf import vmaf
from interp_refiner.training.missing_frame import (
    ErrorByLevel,
    MissingFrameError,
    error_ratio,
    frame_squared_error,
    missing_frame_mse,
)

__all__ = [
    "LPIPS",
    "STLPIPS",
    "Bootstrap",
    "ClipFeatures",
    "ClipTable",
    "ErrorByLevel",
    "ErrorTable",
    "FrameMeasure",
    "FrameTable",
    "FrechetByLevel",
    "FrechetDistance",
    "I3DFeatures",
    "InceptionFeatures",
    "Interval",
    "KeyframeContract",
    "KeyframeReport",
    "MazeScores",
    "MissingFrameError",
    "RandomConvFeatures",
    "Realism",
    "Record",
    "ScoreTable",
    "StochasticScores",
    "difference_energy",
    "edge_collisions",
    "endpoint_error",
    "energies",
    "energy_score",
    "error_ratio",
    "fid_table",
    "frame_squared_error",
    "frechet_distance",
    "fvd_table",
    "keyframe_report",
    "laplacian_energy",
    "lpips_table",
    "missing_frame_mse",
    "nearest_keyframe_copy",
    "noise_of_its_size",
    "paired_bootstrap",
    "path_length",
    "psnr",
    "rank_correlation",
    "shuffled_keyframes",
    "ssim",
    "st_lpips_table",
    "vmaf",
    "vmaf_table",
]
