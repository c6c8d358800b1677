"""What every keyframe schedule shares: the counts, the forced frames, and the ranks that make plans nested."""

from abc import ABC, abstractmethod
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from interp_refiner.core import BadValue, Draws, KeyframePlan
from interp_refiner.schedule.counts import Law, check_counts, check_law, explicit_counts, keyframe_counts


class Schedule(ABC):
    """Chooses the keyframes of every level of a batch of clips (DESIGN section 3, *Plan*).

    A schedule ranks the frames of each sample, and level s keeps the ``K_s`` lowest ranks, so plans are nested whatever
    the ranking. Forced frames (given ones and endpoints) rank lowest and are keyframes at every level; where they are
    more than ``K_s``, level s keeps exactly them.

    Args:
        k_min: keyframes of the sparsest level.
        num_levels: S, how many levels have missing frames.
        law: how the counts fall from T to ``k_min``, see :func:`keyframe_counts`.
        counts: the counts of levels 1..S themselves, such as ``[14, 9, 6, 4]``, instead of the three above.
        endpoints: whether the first and the last frame are always keyframes. ``False`` frees them in samples that have
            given frames, and changes nothing for the others.

    Raises:
        BadValue: for counts no clip could have; for those that do not fit T, once T is known.
    """

    needs_cost: ClassVar[bool] = False

    def __init__(
        self,
        k_min: int = 4,
        num_levels: int = 4,
        law: Law = "geometric",
        counts: list[int] | None = None,
        endpoints: bool = True,
    ):
        if counts is None:
            check_law(k_min, num_levels, law)
        else:
            check_counts(counts)
        self._k_min, self._num_levels, self._law, self._counts = k_min, num_levels, law, counts
        self.endpoints = endpoints

    @final
    def counts(self, num_frames: int) -> list[int]:
        """``[T, K_1, ..., K_S]`` for clips of T frames."""
        if self._counts is not None:
            return explicit_counts(num_frames, self._counts)
        return keyframe_counts(num_frames, self._k_min, self._num_levels, self._law)

    @final
    def num_levels(self, num_frames: int) -> int:
        """S for clips of T frames: fewer than asked for where T is too small."""
        return len(self.counts(num_frames)) - 1

    @final
    def plan(
        self,
        given: Bool[Tensor, "b t"],
        draws: Draws,
        cost: Float[Tensor, "b t t"] | None = None,
    ) -> KeyframePlan:
        """The keyframes of every level.

        Args:
            given: keyframes that are constraints; keyframes at every level, counted in ``K_s``.
            draws: where random schedules take their numbers from.
            cost: additive cost of the segment between keyframes i < j, for schedules with ``needs_cost``.

        Raises:
            BadValue: where the schedule needs a cost and none came, or the counts do not fit T.
        """
        if self.needs_cost and cost is None:
            raise BadValue("cost", None, f"[b, t, t], the cost of every segment, for schedule {type(self).__name__}")
        counts = self.counts(given.shape[1])
        forced = self._forced(given)
        return KeyframePlan.from_ranks(self.rank(forced, given, counts, draws, cost), counts, given, forced)

    @abstractmethod
    def rank(
        self,
        forced: Bool[Tensor, "b t"],
        given: Bool[Tensor, "b t"],
        counts: list[int],
        draws: Draws,
        cost: Float[Tensor, "b t t"] | None,
    ) -> Int[Tensor, "b t"]:
        """A permutation of 0..T-1 per sample, 0 for the frame dropped last; forced frames have the lowest ranks."""

    def _forced(self, given: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
        endpoint = torch.zeros_like(given[0])
        endpoint[0] = endpoint[-1] = True
        if not self.endpoints:
            return given | (endpoint & ~given.any(1, keepdim=True))
        return given | endpoint


def ranks(key: Shaped[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    """The rank of every frame by rising key, the earlier frame first on ties."""
    return key.argsort(dim=1, stable=True).argsort(dim=1)
