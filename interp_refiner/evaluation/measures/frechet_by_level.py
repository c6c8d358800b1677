"""One Frechet distance for every level."""

from typing import Any, cast

import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp_refiner.evaluation.measures.clip_features import ClipFeatures, RandomConvFeatures
from interp_refiner.evaluation.measures.clip_table import Record
from interp_refiner.evaluation.measures.frechet import FrechetDistance


class FrechetByLevel(nn.Module):
    """A :class:`FrechetDistance` a level, with the update of a ``FrameTable`` and records as its result.

    Levels are made when they are first seen. Under several processes ``compute``, which all of them call, sees those of
    all, so one that saw no clip of a level is waited for in vain by nobody.

    Args:
        methods, baselines: see :class:`FrechetDistance`.
        features: None for :class:`RandomConvFeatures` of as many channels as the clips have.
        name: of the figures, ``<name>/m`` and so on.
        settings: of every :class:`FrechetDistance`.
    """

    def __init__(
        self,
        methods: list[str],
        baselines: list[str],
        features: ClipFeatures | None = None,
        name: str = "frechet",
        **settings: Any,
    ):
        super().__init__()
        self.methods, self.baselines, self.features = methods, baselines, features
        self.name, self.settings, self.levels = name, settings, nn.ModuleDict()
        self.channels: dict[int, int] = {}  # of the clips, by level

    def update(
        self,
        estimates: dict[str, Float[Tensor, "b c n h w"]],
        clean: Float[Tensor, "b c n h w"],
        known: Bool[Tensor, "b t"],
        level: Int[Tensor, " b"],
        sample: Int[Tensor, " b"],
        latent_frame: Int[Tensor, " n"] | None = None,
    ) -> None:
        """Adds a batch of one level, as for ``FrameTable``; whole clips are compared, so ``known`` is not read."""
        self._at(int(level[0]), clean.shape[1]).to(clean.device).update(estimates, clean, sample)

    def compute(self) -> list[Record]:
        """``{"level": s, "values": FrechetDistance.compute()}`` for every level, ascending."""
        for level, channels in sorted(self._seen_anywhere().items()):
            self._at(level, channels)
        found = {int(key): cast(FrechetDistance, self.levels[key]).compute() for key in sorted(self.levels, key=int)}
        return [{"level": level, "values": self._renamed(values)} for level, values in found.items()]

    def _at(self, level: int, channels: int) -> FrechetDistance:
        """The distance of a level, a new one where there is none yet."""
        self.channels[level] = channels
        if str(level) not in self.levels:
            features = self.features or RandomConvFeatures(channels)
            self.levels[str(level)] = FrechetDistance(self.methods, self.baselines, features, **self.settings)
        return cast(FrechetDistance, self.levels[str(level)])

    def _seen_anywhere(self) -> dict[int, int]:
        """The levels that any process has seen, with the channels of their clips."""
        seen: list[dict[int, int] | None] = [self.channels]
        if dist.is_available() and dist.is_initialized():
            seen = [None] * dist.get_world_size()
            dist.all_gather_object(seen, self.channels)
        return {level: channels for one in seen for level, channels in (one or {}).items()}

    def _renamed(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name.replace("frechet", self.name, 1): value for name, value in values.items()}
