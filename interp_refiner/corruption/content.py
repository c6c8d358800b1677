"""What a corruption shows its schedule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import Clip, per_frame
from interp_refiner.corruption.segment_cost import check_segment_local, segment_cost
from interp_refiner.interpolator import Interpolator, Linear
from interp_refiner.schedule import Content


@final
@dataclass(frozen=True)
class ClipContent(Content):
    """The content of clips, seen through the interpolator that will fill them."""

    clip: Clip
    interpolator: Interpolator

    def segment_cost(self) -> Float[Tensor, "b t t"]:
        return segment_cost(self.clip.latents, self.interpolator)

    def preview(self, grid: int) -> Float[Tensor, "b c n t"]:
        """The preview that the clip brings; else its proposals with straight lines between them; else its latents."""
        clip = self.clip
        if clip.preview is not None:
            return pooled(clip.preview, grid)
        if clip.proposals is None or clip.proposed is None:
            return pooled(clip.latents, grid)
        none = ~clip.proposed.any(1, keepdim=True)
        values = torch.where(per_frame(none.expand_as(clip.proposed), clip.latents), clip.latents, clip.proposals)
        return pooled(Linear()(values, clip.proposed | none).latents, grid)


@final
@dataclass(frozen=True)
class Blank(Content):
    """Nothing to see, in the right shapes: whether a schedule can work at all shows without clips.

    Args:
        latent_shape: ``[c, t, *space]``.
        interpolator: that the costs would come from.
    """

    latent_shape: Sequence[int]
    interpolator: Interpolator

    def segment_cost(self) -> Float[Tensor, "b t t"]:
        check_segment_local(self.interpolator)
        return torch.zeros(1, self.latent_shape[1], self.latent_shape[1])

    def preview(self, grid: int) -> Float[Tensor, "b c n t"]:
        return pooled(torch.zeros(1, *self.latent_shape), grid)


def pooled(latents: Float[Tensor, "b c t *space"], grid: int) -> Float[Tensor, "b c n t"]:
    """Means over ``n = grid x grid`` cells, in float32; a path is one cell."""
    latents = latents.float()
    if latents.ndim == 5:
        latents = F.adaptive_avg_pool2d(latents.flatten(0, 1), grid).unflatten(0, latents.shape[:2])
    return latents.flatten(3).mT if latents.ndim == 5 else latents.unsqueeze(2)
