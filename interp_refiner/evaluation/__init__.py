"""Evaluates a refiner on held-out clips: measurements, tables and pictures."""

from interp_refiner.evaluation.diagnosis import Diagnosis
from interp_refiner.evaluation.evaluator import ClipError, Evaluator
from interp_refiner.evaluation.held_out import by_level, held_out
from interp_refiner.evaluation.inference_benchmark import InferenceBenchmark
from interp_refiner.evaluation.interpolator_table import HeldOutClips, InterpolatorBenchmark
from interp_refiner.evaluation.logged import log_picture, log_video
from interp_refiner.evaluation.maps import correction_map, maps_by_frame
from interp_refiner.evaluation.methods import BASELINE, MEAN, Methods, config_name
from interp_refiner.evaluation.patch_oracle import PatchOracle
from interp_refiner.evaluation.position_oracle import PositionOracle
from interp_refiner.evaluation.records import Column, Evaluation, newest_evaluation
from interp_refiner.evaluation.replaced import ReplacedKeyframes
from interp_refiner.evaluation.report import markdown_report, markdown_table
from interp_refiner.evaluation.run import Run
from interp_refiner.evaluation.step_benchmark import MakeTrainer, StepBenchmark
from interp_refiner.evaluation.suite import Suite
from interp_refiner.evaluation.suite_part import BenchmarkPart, PytestPart
from interp_refiner.evaluation.validation_keyframes import ValidationKeyframes
from interp_refiner.evaluation.validation_video import LABELS, ValidationVideo

__all__ = [
    "BASELINE",
    "LABELS",
    "MEAN",
    "BenchmarkPart",
    "ClipError",
    "Column",
    "Diagnosis",
    "Evaluation",
    "Evaluator",
    "HeldOutClips",
    "InferenceBenchmark",
    "InterpolatorBenchmark",
    "MakeTrainer",
    "Methods",
    "PatchOracle",
    "PositionOracle",
    "PytestPart",
    "ReplacedKeyframes",
    "Run",
    "StepBenchmark",
    "Suite",
    "ValidationKeyframes",
    "ValidationVideo",
    "by_level",
    "config_name",
    "correction_map",
    "held_out",
    "log_picture",
    "log_video",
    "maps_by_frame",
    "markdown_report",
    "markdown_table",
    "newest_evaluation",
]
