"""Dropout of keyframe channels in training, so that a model works with and without them."""

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted, Draws, per_sample
from interp_refiner.model.backbone.conditioning import KeyframeChannels, MaskedKeyframes


class DroppedKeyframes(KeyframeChannels):
    """Sets all keyframe channels to zero for a random share of training clips (Ho and Salimans 2022, section 3.2).

    The draw is a function of (seed, stream, epoch, key), like those of the corruption. Only the keyframe channels are
    dropped; the state ``x`` and the numbers per frame stay.

    Args:
        channels: the keyframe channels; None for mask and masked keyframe latents.
        probability: probability that a training clip loses its channels.
        shown: whether the channels are used outside training; False measures the model without them, with the
            keyframes only in ``x``.
        seed: the run's seed.

    Raises:
        BadValue: a probability outside 0..1.
    """

    def __init__(
        self,
        channels: KeyframeChannels | None = None,
        probability: float = 0.1,
        shown: bool = True,
        seed: int = 0,
    ):
        if not 0 <= probability <= 1:
            raise BadValue("probability", probability, "a probability from 0 to 1")
        self.channels, self.probability = channels or MaskedKeyframes(), probability
        self.shown, self.seed = shown, seed

    def count(self, latent_channels: int, num_hypotheses: int) -> int:
        return self.channels.count(latent_channels, num_hypotheses)

    def __call__(self, corrupted: Corrupted) -> Float[Tensor, "b k t *space"]:
        channels, clip = self.channels(corrupted), corrupted.clip
        if clip.epochs is None:
            return channels if self.shown else torch.zeros_like(channels)
        coin = Draws(self.seed, "train", clip.keys, clip.epochs).uniform("keyframe_dropout", 1, channels.device)
        return torch.where(per_sample(coin.squeeze(1) < self.probability, channels), 0.0, channels)
