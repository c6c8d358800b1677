"""Proposals from another model, stored as anchors."""

from typing import Literal, final

from interp_refiner.core import BadValue, Clip, Corrupted, Draws, choice
from interp_refiner.forward.scheduled_sampling.confidence import ProposalConfidence
from interp_refiner.forward.scheduled_sampling.probability import Probability
from interp_refiner.forward.scheduled_sampling.scheduled_sampling import Proposals, Replacing

Uncovered = Literal["error", "truth"]


@final
class Phase1(Replacing):
    """The proposals that the data module joins to each clip by key; frames without one keep the truth.

    Args:
        probability, exempt_endpoints, confidence: as in :class:`Replacing`.
        uncovered: what an evaluation on proposals alone (``probability.evaluation = 1``) does with keyframes that have
            none: ``"error"`` refuses them, ``"truth"`` shows the truth. Training always shows the truth.

    Raises:
        BadValue: an unknown ``uncovered``.
    """

    needs_anchors = True

    def __init__(
        self,
        probability: Probability | None = None,
        exempt_endpoints: bool = False,
        confidence: ProposalConfidence | None = None,
        uncovered: Uncovered = "error",
    ):
        super().__init__(probability, exempt_endpoints, confidence)
        self.uncovered = choice("uncovered", uncovered, ("error", "truth"))

    def propose(self, clip: Clip, draws: Draws) -> Proposals | None:
        """The clip's proposals.

        Raises:
            BadValue: the clip has no proposals and no mask; a mask without any True is allowed.
        """
        if clip.proposals is None or clip.proposed is None:
            raise BadValue("clip.proposals", None, "proposals and their mask, with scheduled_sampling=phase1")
        return Proposals(clip.proposals, clip.proposed)

    def check_shown(self, corrupted: Corrupted) -> None:
        proposed = corrupted.clip.proposed
        if self.uncovered == "truth" or self.probability(None) < 1 or proposed is None:
            return
        replaceable = self.replaceable(corrupted.known) & ~corrupted.given
        without_proposal = (replaceable & ~proposed).sum(1)
        row = int(without_proposal.argmax())
        if (count := int(without_proposal[row])) > 0:
            total, level = int(replaceable[row].sum()), int(corrupted.level[row])
            allowed = f"truth, or a proposal for every keyframe: {count} of {total} have none in clip"
            name = "scheduled_sampling.uncovered"
            raise BadValue(name, self.uncovered, f"{allowed} {corrupted.clip.keys[row]} at level {level}")
