"""Proposals from the model that is being trained."""

from typing import final

from interp_refiner.core import Clip, Draws
from interp_refiner.forward.scheduled_sampling.scheduled_sampling import Proposals, Replacing


@final
class Self(Replacing):
    """The model's own prediction from one level coarser, as in one step of ``hierarchical`` sampling.

    Only frames that are missing at the coarser level have a proposal, because the model sees the others. The sparsest
    level has no coarser one, so it keeps the truth. The training step makes the predictions, without gradient.
    """

    from_model = True

    def propose(self, clip: Clip, draws: Draws) -> Proposals | None:
        return None
