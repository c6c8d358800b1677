"""Prompts to embeddings. ``umt5`` is imported only where asked for: transformers is optional and slow to load."""

from interp_refiner.text.caption import CaptionEncoder
from interp_refiner.text.declared import declared_text_encoder
from interp_refiner.text.negative import NegativeEmbedding, load_embedding
from interp_refiner.text.text_encoder import TextEncoder

__all__ = ["CaptionEncoder", "NegativeEmbedding", "TextEncoder", "declared_text_encoder", "load_embedding"]
