"""The distance between latents of stills and latents of the video that the stills come from."""

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import frame_mean
from interp_refiner.data.codec.codec import Codec
from interp_refiner.data.codec.still import MODES


@torch.no_grad()
def still_gap(codec: Codec, video: Float[Tensor, "b 3 t h w"]) -> dict[str, Float[Tensor, " n"]]:
    """The RMS distance of every latent frame, over clips, channels and positions, by mode of encoding.

    The unit is the latents' standard deviation; unrelated frames have the distance 1.4.
    """
    latents = codec.encode(video)
    gap = {name: (codec.stills(video, still) - latents).square() for name, still in MODES.items()}
    return {name: frame_mean(square).mean(0).sqrt() for name, square in gap.items()}
