"""The pipeline in the style of diffusers."""
