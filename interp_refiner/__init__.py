"""A video refiner whose forward process is keyframes + interpolation (+ noise), on Wan2.1 latents."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp_refiner.assemble import Run, load_run

__version__ = "0.1.0"
__all__ = ["Run", "load_run"]


def __getattr__(name: str) -> Any:
    """``load_run`` and ``Run``, imported when they are asked for: they bring torch, Lightning and diffusers along."""
    if name in __all__:
        from interp_refiner import assemble

        return getattr(assemble, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
