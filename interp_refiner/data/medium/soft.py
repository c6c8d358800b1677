"""Clips with blurred missing frames: a control with a small squared error that must score low in realism."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from interp_refiner.core import per_frame


def blurred(clean: Float[Tensor, "b c t h w"], known: Bool[Tensor, "b t"]) -> Float[Tensor, "b c t h w"]:
    """The truth with missing frames averaged over 3x3 positions (borders replicated): right motion, blurred."""
    return torch.where(per_frame(known, clean), clean, local_mean(clean))


def local_mean(x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
    """Mean over 3x3 positions of every frame, borders replicated."""
    b, c, t, h, w = x.shape
    padded = F.pad(x.reshape(b * c, t, h, w), (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(padded, 3, stride=1).view_as(x)
