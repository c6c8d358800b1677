"""Maps a storyboard's keyframes to a plan and to one of the levels of training."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from interp_refiner.core import Corrupted, Draws, KeyframePlan
from interp_refiner.forward.corruption import Corruption
from interp_refiner.forward.schedule.splitting import rank_by_splitting


@dataclass(frozen=True)
class Levels:
    """The number of keyframes at each level in training.

    Attributes:
        counts: ``K_0 = T > K_1 > ... > K_S``.
    """

    counts: Sequence[int]

    @property
    def sparsest(self) -> int:
        return len(self.counts) - 1

    def level(self, keyframes: int, num_frames: int) -> int:
        """The finest level (at least 1) whose share ``K_s / T`` of keyframes is not above the clip's; S if none is.

        In training, a clip at level s has at least ``K_s`` keyframes of T, including given ones.
        """
        total = self.counts[0]
        finest = (s for s in range(1, self.sparsest) if self.counts[s] * num_frames <= keyframes * total)
        return next(finest, self.sparsest)

    def plan(self, known: Bool[Tensor, "1 t"], given: Bool[Tensor, "1 t"]) -> KeyframePlan:
        """The plan with exactly ``known`` as keyframes at their own level and every sparser one.

        Finer levels split the largest gaps, as ``schedule=uniform`` does; their counts are those of training, scaled to
        the clip's length.
        """
        num_frames, keyframes = known.shape[1], int(known.sum())
        scaled = [round(count * num_frames / self.counts[0]) for count in self.counts]
        level = self.level(keyframes, num_frames)
        counts = [num_frames, *(min(c, keyframes) if s >= level else c for s, c in enumerate(scaled) if s > 0)]
        return KeyframePlan.from_ranks(rank_by_splitting(known, known), counts, given, known)

    def of_density(self, corrupted: Corrupted) -> Corrupted:
        """A part of a clip, at the level that fits its own share of keyframes."""
        known = corrupted.known
        level = [self.level(count, known.shape[1]) for count in known.sum(1).tolist()]
        return replace(corrupted, level=torch.tensor(level, device=known.device))


def with_keyframes_at(
    corrupted: Corrupted, corruption: Corruption, frames: Iterable[int], stream: str = "sample"
) -> Corrupted:
    """The first clip of a batch, corrupted again with other keyframes, all of them given.

    Args:
        corrupted: the clip; its true frames are read only at the new keyframes.
        corruption: the forward process; its schedule is not used.
        frames: the keyframes; their number determines the level, as in :meth:`Levels.level`.
        stream: stream of the random draws.
    """
    clip = corrupted.clip.select([0])
    known = torch.zeros(1, clip.num_frames, dtype=torch.bool, device=clip.latents.device)
    known[:, sorted(set(frames))] = True
    levels = Levels(corruption.schedule.counts_for(clip.num_frames))
    level = torch.tensor([levels.level(int(known.sum()), clip.num_frames)], device=known.device)
    draws = Draws(corruption.seed, stream, clip.keys)
    return corruption.of_keyframes(clip, levels.plan(known, known), level, draws)
