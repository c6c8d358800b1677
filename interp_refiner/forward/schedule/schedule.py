"""The base class of schedules: counts, forced frames, and ranks that make plans nested."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from interp_refiner.core import Draws, KeyframePlan
from interp_refiner.forward.schedule.content import Content, Unseen
from interp_refiner.forward.schedule.counts import Law, check_counts, check_law, explicit_counts, keyframe_counts


@dataclass(frozen=True)
class Request:
    """The input of a schedule's ranking of the frames of a batch.

    Attributes:
        given: keyframes that are constraints.
        forced: frames that are keyframes at every level: given ones and endpoints.
        counts: ``K_0 = T > K_1 > ... > K_S``.
        draws: the random numbers, for random schedules.
        content: the content of the clips, for schedules that depend on it.
    """

    given: Bool[Tensor, "b t"]
    forced: Bool[Tensor, "b t"]
    counts: list[int]
    draws: Draws
    content: Content

    @property
    def num_frames(self) -> int:
        return self.given.shape[1]


@dataclass(kw_only=True, eq=False)
class Schedule(ABC):
    """Chooses the keyframes of every level of a batch of clips (docs/method.md, Plan).

    A schedule ranks the frames of each sample, and level s keeps the ``K_s`` lowest ranks. So plans are nested for any
    ranking. Forced frames (given ones and endpoints) rank lowest and are keyframes at every level. If there are more
    than ``K_s`` forced frames, level s keeps exactly these.

    A subclass is also a dataclass and lists only the arguments that it adds.

    Args:
        k_min: keyframes of the sparsest level.
        num_levels: S, how many levels have missing frames.
        law: how the counts decrease from T to ``k_min``, see :func:`keyframe_counts`.
        counts: explicit counts of levels 1..S, such as ``[14, 9, 6, 4]``, instead of the three above.
        endpoints: whether the first and the last frame are always keyframes. ``False`` frees them in samples that have
            given frames, and changes nothing for the others.

    Raises:
        BadValue: counts that no clip could have; on use, counts that do not fit T.
    """

    k_min: int = 4
    num_levels: int = 4
    law: Law = "geometric"
    counts: list[int] | None = None
    endpoints: bool = True

    @staticmethod
    def idle(settings: Mapping[str, Any]) -> dict[str, str]:
        """The settings without effect, see :class:`SaysIdle`."""
        if (counts := settings.get("counts")) is None:
            return {}
        return dict.fromkeys(("k_min", "num_levels", "law"), f"counts={counts} replaces it; set counts or counts=null")

    def __post_init__(self) -> None:
        if self.counts is None:
            check_law(self.k_min, self.num_levels, self.law)
        else:
            check_counts(self.counts)

    @property
    def needs_anchors(self) -> bool:
        """Whether it needs phase-1 candidates, which the data module then reads."""
        return False

    @property
    def sees(self) -> str:
        """The part of a clip's content that the plan depends on, for reports."""
        return "nothing"

    @final
    def counts_for(self, num_frames: int) -> list[int]:
        """``[T, K_1, ..., K_S]`` for clips of T frames; fewer levels if T is too small for ``num_levels``."""
        if self.counts is not None:
            return explicit_counts(num_frames, self.counts)
        return keyframe_counts(num_frames, self.k_min, self.num_levels, self.law)

    @final
    def plan(self, given: Bool[Tensor, "b t"], draws: Draws, content: Content | None = None) -> KeyframePlan:
        """The keyframes of every level.

        Args:
            given: keyframes that are constraints; keyframes at every level, counted in ``K_s``.
            draws: the random numbers, for random schedules.
            content: the content of the clips; None if the schedule does not need it.

        Raises:
            BadValue: the schedule needs content that is missing, or the counts do not fit T.
        """
        counts, forced = self.counts_for(given.shape[1]), self._forced(given)
        rank = self.rank(Request(given, forced, counts, draws, content or Unseen()))
        return KeyframePlan.from_ranks(rank, counts, given, forced)

    @abstractmethod
    def rank(self, request: Request) -> Int[Tensor, "b t"]:
        """A permutation of 0..T-1 per sample, 0 for the frame dropped last; forced frames have the lowest ranks."""

    def _forced(self, given: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
        endpoint = torch.zeros_like(given[0])
        endpoint[0] = endpoint[-1] = True
        if not self.endpoints:
            return given | (endpoint & ~given.any(1, keepdim=True))
        return given | endpoint


def ranks(key: Shaped[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    """The rank of every frame in increasing order of ``key``; on ties the earlier frame is first."""
    return key.argsort(dim=1, stable=True).argsort(dim=1)
