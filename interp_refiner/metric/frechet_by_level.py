"""One Frechet distance for every level."""

from typing import Any, cast

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp_refiner.metric.clip_features import ClipFeatures, RandomConvFeatures
from interp_refiner.metric.clip_table import Record
from interp_refiner.metric.frechet import FrechetDistance


class FrechetByLevel(nn.Module):
    """A :class:`FrechetDistance` a level, with the update of a ``FrameTable`` and records as its result.

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
        key = str(int(level[0]))
        if key not in self.levels:
            features = self.features or RandomConvFeatures(clean.shape[1])
            self.levels[key] = FrechetDistance(self.methods, self.baselines, features, **self.settings).to(clean.device)
        cast(FrechetDistance, self.levels[key]).update(estimates, clean, sample)

    def compute(self) -> list[Record]:
        """``{"level": s, "values": FrechetDistance.compute()}`` for every level, ascending."""
        found = {int(key): cast(FrechetDistance, distance).compute() for key, distance in self.levels.items()}
        return [{"level": level, "values": self._renamed(found[level])} for level in sorted(found)]

    def _renamed(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name.replace("frechet", self.name, 1): value for name, value in values.items()}
