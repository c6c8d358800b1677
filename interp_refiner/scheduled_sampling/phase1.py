"""Proposals of another model, stored as anchors."""

from typing import final

from interp_refiner.core import BadValue, Clip, Draws
from interp_refiner.scheduled_sampling.scheduled_sampling import Proposals, Replacing


@final
class Phase1(Replacing):
    """The clip's own proposals, which the data module joins to it by key; frames without one keep the truth."""

    needs_anchors = True

    def propose(self, clip: Clip, draws: Draws) -> Proposals | None:
        """The proposals that the clip brings.

        Raises:
            BadValue: the clip brings none, not even an empty mask of them.
        """
        if clip.proposals is None or clip.proposed is None:
            raise BadValue("clip.proposals", None, "proposals and their mask, with scheduled_sampling=phase1")
        return Proposals(clip.proposals, clip.proposed)
