"""Training on keyframes as a storyboard has them: encoded from stills."""

import torch

from interp_refiner.codec import Codec
from interp_refiner.core import BadValue, Corrupted, Draws, per_frame
from interp_refiner.corruption import TRAIN_STREAM, Corruption


def check_still_keyframes(probability: float, corruption: Corruption, codec: Codec | None) -> None:
    """Refuses, with :class:`BadValue`, stills that cannot be made or would not be kept.

    Args:
        probability: of a keyframe to be encoded from a still.
        corruption: of the run.
        codec: of the latents; None where it is not known yet.
    """
    name = "still_keyframes"
    if not 0 <= probability <= 1:
        raise BadValue(name, probability, "a probability from 0 to 1")
    if probability and corruption.scheduled_sampling.replaces:
        raise BadValue(name, probability, "0 where scheduled sampling replaces keyframes")
    if probability and codec is not None and codec.caveat:
        allowed = "0 where the codec is a preview: stills are made of pixels (codec=wan_vae codec.folder=<folder>)"
        raise BadValue(name, probability, allowed)


@torch.no_grad()
def with_still_keyframes(corrupted: Corrupted, corruption: Corruption, codec: Codec, probability: float) -> Corrupted:
    """The same corruption with some keyframes decoded and encoded again as stills, given ones too.

    Each is drawn for itself, as a function of (seed, epoch, key). The clip itself, and so the target of all other
    frames, stays as it was coded from video. All frames of the batch go through the codec, since which of them are
    keyframes is known to the device only.

    Args:
        corrupted: a training batch.
        corruption: that made it.
        codec: on the device of the batch.
        probability: of a keyframe.
    """
    clip = corrupted.clip
    draws = Draws(corruption.seed, TRAIN_STREAM, clip.keys, clip.epochs)
    coin = draws.uniform("still_keyframes", clip.num_frames, clip.latents.device)
    chosen = per_frame(corrupted.known & (coin < probability), clip.latents)
    stills = codec.stills(codec.decode(clip.latents.float())).to(clip.latents.dtype)
    return corruption.with_values(corrupted, torch.where(chosen, stills, corrupted.values))
