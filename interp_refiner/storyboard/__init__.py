"""Uses a trained refiner: storyboards, and a pipeline in the style of diffusers."""

from interp_refiner.storyboard.arguments import RefinerOutput, Request
from interp_refiner.storyboard.export import as_pipeline, phase1_of, run_of
from interp_refiner.storyboard.inference import Inference
from interp_refiner.storyboard.keyframe import Keyframe
from interp_refiner.storyboard.levels import with_keyframes_at
from interp_refiner.storyboard.phase1 import Phase1
from interp_refiner.storyboard.pipeline import RefinerPipeline
from interp_refiner.storyboard.plan import Planner, VideoPlan, VideoSize
from interp_refiner.storyboard.publish import adapters_of, push, reserve, save_lora, with_terms
from interp_refiner.storyboard.saved import INDEX, Components, PipelineConfig
from interp_refiner.storyboard.saved_generator import load_generator, save_generator
from interp_refiner.storyboard.storyboard import Storyboard, load_storyboard, naming, parse_storyboard
from interp_refiner.storyboard.validation import ValidationStoryboards
from interp_refiner.storyboard.weights import store_as

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
