"""Proposals of another model, stored as anchors."""

from typing import Literal, final

from interp_refiner.core import BadValue, Clip, Corrupted, Draws, choice
from interp_refiner.forward.scheduled_sampling.confidence import ProposalConfidence
from interp_refiner.forward.scheduled_sampling.probability import Probability
from interp_refiner.forward.scheduled_sampling.scheduled_sampling import Proposals, Replacing

Uncovered = Literal["error", "truth"]


@final
class Phase1(Replacing):
    """The clip's own proposals, which the data module joins to it by key; frames without one keep the truth.

    Args:
        probability, exempt_endpoints, confidence: as in :class:`Replacing`.
        uncovered: for keyframes without a proposal in an evaluation of proposals only (``probability.evaluation = 1``):
            ``"error"`` refuses them, ``"truth"`` shows the truth there. Training always shows the truth there.

    Raises:
        BadValue: another ``uncovered``.
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
        """The proposals that the clip brings.

        Raises:
            BadValue: the clip brings none, not even an empty mask of them.
        """
        if clip.proposals is None or clip.proposed is None:
            raise BadValue("clip.proposals", None, "proposals and their mask, with scheduled_sampling=phase1")
        return Proposals(clip.proposals, clip.proposed)

    def check_shown(self, corrupted: Corrupted) -> None:
        proposed = corrupted.clip.proposed
        if self.uncovered == "truth" or self.probability(None) < 1 or proposed is None:
            return
        every = self.replaceable(corrupted.known) & ~corrupted.given
        shown_truth = (every & ~proposed).sum(1)
        row = int(shown_truth.argmax())
        if (count := int(shown_truth[row])) > 0:
            of, level = int(every[row].sum()), int(corrupted.level[row])
            allowed = f"truth, or a proposal for every keyframe: {count} of {of} have none in clip"
            name = "scheduled_sampling.uncovered"
            raise BadValue(name, self.uncovered, f"{allowed} {corrupted.clip.keys[row]} at level {level}")
