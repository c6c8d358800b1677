"""Proposals of the model that is being trained."""

from typing import final

from interp_refiner.core import Clip, Draws
from interp_refiner.forward.scheduled_sampling.scheduled_sampling import Proposals, Replacing


@final
class Self(Replacing):
    """The model's own prediction from one level coarser, as in one step of ``hierarchical`` sampling.

    Only frames that are missing at the coarser level have a proposal; the model sees the others. The sparsest level has
    no coarser one and keeps the truth. Predictions are made without gradient in the training step, where the model is.
    """

    from_model = True

    def propose(self, clip: Clip, draws: Draws) -> Proposals | None:
        return None
