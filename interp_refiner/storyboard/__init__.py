"""Uses a trained refiner: storyboards, and a pipeline in the style of diffusers."""

from interp_refiner.storyboard.conditioning.phase1 import Phase1
from interp_refiner.storyboard.export.conversion import as_pipeline, phase1_of, run_of
from interp_refiner.storyboard.export.publish import adapters_of, push, reserve, save_lora, with_terms
from interp_refiner.storyboard.file.keyframe import Keyframe
from interp_refiner.storyboard.file.storyboard import Storyboard, load_storyboard, naming, parse_storyboard
from interp_refiner.storyboard.pipeline.arguments import RefinerOutput, Request
from interp_refiner.storyboard.pipeline.low_memory import Inference
from interp_refiner.storyboard.pipeline.pipeline import RefinerPipeline
from interp_refiner.storyboard.plan.levels import with_keyframes_at
from interp_refiner.storyboard.plan.plan import Planner, VideoPlan, VideoSize
from interp_refiner.storyboard.sampling.validation import ValidationStoryboards
from interp_refiner.storyboard.saved.components import INDEX, Components, PipelineConfig
from interp_refiner.storyboard.saved.generator import load_generator, save_generator
from interp_refiner.storyboard.saved.weights import store_as

__all__ = [
    "INDEX",
    "Components",
    "Inference",
    "Keyframe",
    "Phase1",
    "PipelineConfig",
    "Planner",
    "RefinerOutput",
    "RefinerPipeline",
    "Request",
    "Storyboard",
    "ValidationStoryboards",
    "VideoPlan",
    "VideoSize",
    "adapters_of",
    "as_pipeline",
    "load_generator",
    "load_storyboard",
    "naming",
    "parse_storyboard",
    "phase1_of",
    "push",
    "reserve",
    "run_of",
    "save_generator",
    "save_lora",
    "store_as",
    "with_keyframes_at",
    "with_terms",
]
