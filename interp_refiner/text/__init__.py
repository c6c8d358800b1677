"""Prompts to embeddings. ``umt5`` is imported only where asked for: transformers is optional and slow to load."""

from interp_refiner.text.caption import CaptionEncoder
from interp_refiner.text.text_encoder import TextEncoder

__all__ = ["CaptionEncoder", "TextEncoder"]
