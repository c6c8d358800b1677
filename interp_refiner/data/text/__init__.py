"""Prompt embeddings. ``umt5`` is imported only on request, because transformers is optional and slow to load."""

from interp_refiner.data.text.caption import CaptionEncoder
from interp_refiner.data.text.declared import declared_text_encoder
from interp_refiner.data.text.text_encoder import TextEncoder

__all__ = ["CaptionEncoder", "TextEncoder", "declared_text_encoder"]
