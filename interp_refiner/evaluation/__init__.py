"""Evaluates a refiner on held-out clips: measurements, tables and pictures."""

from interp_refiner.evaluation.benchmarks.inference import InferenceBenchmark
from interp_refiner.evaluation.benchmarks.interpolators import HeldOutClips, InterpolatorBenchmark
from interp_refiner.evaluation.benchmarks.patch_oracle import PatchOracle
from interp_refiner.evaluation.benchmarks.position_oracle import PositionOracle
from interp_refiner.evaluation.benchmarks.step import MakeTrainer, StepBenchmark
from interp_refiner.evaluation.diagnosis.diagnosis import Diagnosis
from interp_refiner.evaluation.evaluator.evaluator import ClipError, Evaluator
from interp_refiner.evaluation.evaluator.methods import BASELINE, MEAN, Methods, config_name
from interp_refiner.evaluation.evaluator.replaced import ReplacedKeyframes
from interp_refiner.evaluation.pictures.loggers import log_picture, log_video
from interp_refiner.evaluation.pictures.maps import correction_map, maps_by_frame
from interp_refiner.evaluation.pictures.validation_keyframes import ValidationKeyframes
from interp_refiner.evaluation.pictures.validation_video import LABELS, ValidationVideo
from interp_refiner.evaluation.programs.suite import Suite
from interp_refiner.evaluation.programs.suite_part import BenchmarkPart, PytestPart
from interp_refiner.evaluation.records.markdown import markdown_report, markdown_table
from interp_refiner.evaluation.records.records import Column, Evaluation, newest_evaluation
from interp_refiner.evaluation.run.held_out import by_level, held_out
from interp_refiner.evaluation.run.run import Run

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
