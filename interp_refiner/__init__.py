"""A video refiner whose forward process is keyframes + interpolation (+ noise), on Wan2.1 latents."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp_refiner.assemble import Run, load_run
    from interp_refiner.storyboard import Keyframe, RefinerPipeline

__version__ = "0.1.0"
__all__ = ["Keyframe", "RefinerPipeline", "Run", "load_run"]
HOMES = {"Keyframe": "storyboard", "RefinerPipeline": "storyboard", "Run": "assemble", "load_run": "assemble"}


def __getattr__(name: str) -> Any:
    """The names in ``__all__``, imported on first use, because they import torch, Lightning and diffusers."""
    if name in HOMES:
        return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
