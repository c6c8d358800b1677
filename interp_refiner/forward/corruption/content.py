"""The content of clips that a corruption gives its schedule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Clip, per_frame
from interp_refiner.forward.corruption.segment_cost import check_segment_local, segment_cost
from interp_refiner.forward.interpolator import Interpolator, Linear
from interp_refiner.forward.schedule import Content


@final
@dataclass(frozen=True)
class ClipContent(Content):
    """The content of clips; segment costs are the errors of ``interpolator``, which will also fill the clips."""

    clip: Clip
    interpolator: Interpolator

    def segment_cost(self) -> Float[Tensor, "b t t"]:
        return segment_cost(self.clip.latents, self.interpolator)

    def coarse_clip(self, grid: int) -> Float[Tensor, "b c n t"]:
        if self.clip.latents.ndim == 3:
            raise BadValue(
                "preview", "clip", "anchors: a path has no coarser grid, so its preview would be the path itself"
            )
        return pooled(self.clip.latents, grid)

    def coarse_candidates(self, grid: int) -> Float[Tensor, "b c n t"]:
        """See :class:`Content`; zeros for a clip without candidates, so that the clip itself is never read.

        Raises:
            BadValue: the clips have no candidates.
        """
        values, proposed = self.clip.proposals, self.clip.proposed
        if values is None or proposed is None:
            allowed = "phase-1 candidates, of which preview=anchors is made (data.anchors.always=true reads them)"
            raise BadValue("clip.proposals", None, allowed)
        none = ~proposed.any(1, keepdim=True)
        values = torch.where(per_frame(proposed, values), values, 0.0)
        return pooled(Linear()(values, proposed | none).latents, grid)


@final
@dataclass(frozen=True)
class Blank(Content):
    """Empty content in the right shapes, to check a schedule without clips.

    Args:
        latent_shape: ``[c, t, *space]``.
        interpolator: the interpolator whose errors are the segment costs.
    """

    latent_shape: Sequence[int]
    interpolator: Interpolator

    def segment_cost(self) -> Float[Tensor, "b t t"]:
        check_segment_local(self.interpolator)
        return torch.zeros(1, self.latent_shape[1], self.latent_shape[1])

    def coarse_clip(self, grid: int) -> Float[Tensor, "b c n t"]:
        return ClipContent(Clip(torch.zeros(1, *self.latent_shape), [""]), self.interpolator).coarse_clip(grid)

    def coarse_candidates(self, grid: int) -> Float[Tensor, "b c n t"]:
        return pooled(torch.zeros(1, *self.latent_shape), grid)


def pooled(latents: Float[Tensor, "b c t *space"], grid: int) -> Float[Tensor, "b c n t"]:
    """Means over ``n = grid x grid`` cells, in float32; a path is one cell.

    Raises:
        BadValue: cells of less than 2 x 2 positions, which would show the clip itself instead of a preview.
    """
    latents = latents.float()
    if latents.ndim == 5:
        if 2 * grid > min(latents.shape[3:]):
            height, width = latents.shape[3:]
            raise BadValue("grid", grid, f"at most {min(height, width) // 2}, half of the {height} x {width} latents")
        latents = F.adaptive_avg_pool2d(latents.flatten(0, 1), grid).unflatten(0, latents.shape[:2])
    return latents.flatten(3).mT if latents.ndim == 5 else latents.unsqueeze(2)
