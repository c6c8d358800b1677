"""Prompt dropout in training, so that the model also learns to work without a prompt (for guidance)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

import torch

from interp_refiner.core import BadValue, Clip, Draws, NegativeEmbedding, per_sample

STREAM = "train"


@final
class TextDropout:
    """Replaces the prompt of a random share of the training clips (Ho and Salimans 2022, algorithm 1).

    The draw is a function of (seed, epoch, key), like those of the corruption. Held-out clips keep their prompts.

    Args:
        probability: that a training clip loses its prompt.
        negative: a tensor file ``[L, D]`` with the embedding used instead, see :class:`NegativeEmbedding`.
        seed: the run's seed.

    Raises:
        BadValue: a probability outside 0..1, or no such file.
    """

    @staticmethod
    def idle(settings: Mapping[str, Any]) -> dict[str, str]:
        """The settings without effect, see :class:`SaysIdle`."""
        return {"negative": "with probability=0 no prompt is replaced"} if settings.get("probability") == 0 else {}

    def __init__(self, probability: float = 0.1, negative: str | None = None, seed: int = 0):
        if not 0 <= probability <= 1:
            raise BadValue("probability", probability, "a probability from 0 to 1")
        self.probability, self.negative, self.seed = probability, NegativeEmbedding(negative), seed

    def __call__(self, clip: Clip) -> Clip:
        """The clip with some of its prompts replaced; unchanged outside training and without prompts."""
        if clip.text is None or clip.epochs is None or self.probability == 0:
            return clip
        draws = Draws(self.seed, STREAM, clip.keys, clip.epochs)
        coin = draws.uniform("text_dropout", 1, clip.text.device).squeeze(1)
        dropped = per_sample(coin < self.probability, clip.text)
        return replace(clip, text=torch.where(dropped, self.negative.like(clip.text), clip.text))
