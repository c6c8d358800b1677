"""A video refiner whose forward process is keyframes + interpolation (+ noise), on Wan2.1 latents."""

__version__ = "0.1.0"
