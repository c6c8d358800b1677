"""How far the latents of stills are from those of the video that they were taken from."""

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import frame_mean
from interp_refiner.data.codec.codec import Codec
from interp_refiner.data.codec.still import MODES


@torch.no_grad()
def still_gap(codec: Codec, video: Float[Tensor, "b 3 t h w"]) -> dict[str, Float[Tensor, " n"]]:
    """The root mean square distance of every latent frame, over clips, channels and positions, by mode of encoding.

    In standard deviations of the latents, so 1.4 is the distance of unrelated frames.
    """
    latents = codec.encode(video)
    gap = {name: (codec.stills(video, still) - latents).square() for name, still in MODES.items()}
    return {name: frame_mean(square).mean(0).sqrt() for name, square in gap.items()}
