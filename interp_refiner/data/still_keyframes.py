"""Training on keyframes that are encoded from stills, as those of a storyboard are."""

import torch

from interp_refiner.core import BadValue, Corrupted, Draws, per_frame
from interp_refiner.data.codec import Codec
from interp_refiner.forward.corruption import TRAIN_STREAM, Corruption


def check_still_keyframes(probability: float, codec: Codec | None) -> None:
    """Raises :class:`BadValue` if the codec cannot encode stills or the probability is not one.

    Args:
        probability: that a keyframe is encoded from a still.
        codec: of the latents; None if it is not known yet.
    """
    name = "still_keyframes"
    if not 0 <= probability <= 1:
        raise BadValue(name, probability, "a probability from 0 to 1")
    if probability and codec is not None and codec.caveat:
        allowed = "0 if the codec is a preview: stills are encoded from pixels (codec=wan_vae codec.folder=<folder>)"
        raise BadValue(name, probability, allowed)


@torch.no_grad()
def with_still_keyframes(corrupted: Corrupted, corruption: Corruption, codec: Codec, probability: float) -> Corrupted:
    """The same corruption with some given keyframes decoded and encoded again as stills.

    Each keyframe is drawn independently, as a function of (seed, epoch, key). Keyframes that scheduled sampling may
    replace stay as they are. The clean clip, and so the target of all other frames, stays encoded from video.

    The number of drawn frames is known only on the device. So a fixed number of frames per clip is encoded, drawn
    frames first: the number of keyframes of the finest level. If a clip has more given frames, the last of them stay
    video latents.

    Args:
        corrupted: a training batch.
        corruption: the corruption that made it.
        codec: on the device of the batch.
        probability: that a keyframe is encoded from a still.
    """
    clip = corrupted.clip
    draws = Draws(corruption.seed, TRAIN_STREAM, clip.keys, clip.epochs)
    coin = draws.uniform("still_keyframes", clip.num_frames, clip.latents.device)
    chosen = corrupted.given & (coin < probability)
    most = corruption.schedule.counts_for(clip.num_frames)[corruption.level or 1]
    slots = chosen.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
    stills = codec.stills_at(codec.decode(clip.latents.float()), slots).to(clip.latents.dtype)
    index = slots.view(slots.shape[0], 1, -1, 1, 1).expand_as(stills)
    placed = corrupted.values.scatter(2, index, stills)
    return corruption.with_values(corrupted, torch.where(per_frame(chosen, placed), placed, corrupted.values))
