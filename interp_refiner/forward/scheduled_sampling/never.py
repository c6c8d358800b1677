"""No scheduled sampling."""

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import Clip, Draws
from interp_refiner.forward.scheduled_sampling.scheduled_sampling import Proposals, ScheduledSampling


@final
class Never(ScheduledSampling):
    """Keyframes are the truth: every frame known at the level is a constraint."""

    replaces = False

    def propose(self, clip: Clip, draws: Draws) -> Proposals | None:
        return None

    def chosen(self, known: Bool[Tensor, "b t"], draws: Draws, step: int | None = None) -> Bool[Tensor, "b t"]:
        return known & False

    def confidence(self, sparsity: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return torch.ones_like(sparsity)
