"""Measures a refiner on held-out clips, beside interpolations and controls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted
from interp_refiner.data.medium import Medium
from interp_refiner.evaluation.measures import (
    Bootstrap,
    ErrorTable,
    KeyframeContract,
    StochasticScores,
    error_ratio,
    missing_frame_mse,
)
from interp_refiner.evaluation.measures.bootstrap import DEFAULT_BOOTSTRAP
from interp_refiner.evaluation.methods import BASELINE, SHUFFLED, Methods
from interp_refiner.evaluation.results import Evaluation
from interp_refiner.evaluation.tables import Table, tables_of
from interp_refiner.training import Refiner


@dataclass(frozen=True)
class ClipError:
    """How well the one jump did on one clip at one level.

    Attributes:
        key: the clip's name.
        level: of sparsity.
        ratio: its missing-frame MSE relative to linear interpolation's.
    """

    key: str
    level: int
    ratio: float


class Evaluator:
    """Takes corrupted clips batch by batch and fills an :class:`Evaluation`; see :class:`Methods` for what is compared.

    Errors are measured in latents on every clip; the medium's own figures, which may need decoding, on the first
    ``scores_clips`` clips. None of the latter looks at estimates from shuffled keyframes, which are good clips of
    another kind.

    Args:
        refiner: in evaluation mode, on its device, with the sampler to judge.
        medium: what its clips are, on the same device.
        num_samples: samples a clip; with 2 or more their energy score and spread are measured.
        scores_clips: clips that the medium looks at; None for all.
        bootstrap: of the intervals.
        interpolation: what the run's own interpolation is called; None: after its class.
        chosen: tables beside the medium's own, by name.

    Raises:
        BadValue: counts below 1, several samples that would all be the same, or a chosen table not for such clips.
    """

    def __init__(
        self,
        refiner: Refiner,
        medium: Medium,
        num_samples: int = 1,
        scores_clips: int | None = None,
        bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
        interpolation: str | None = None,
        chosen: Mapping[str, Table] | None = None,
    ):
        if scores_clips is not None and scores_clips < 1:
            raise BadValue("scores_clips", scores_clips, "at least 1, or null for all")
        self.methods, self.medium = Methods(refiner, medium, num_samples, interpolation), medium
        self.scores_clips = scores_clips
        self.roles, self.device = self.methods.roles, refiner.device
        names, baselines = list(self.roles), [m for m, role in self.roles.items() if role == "baseline"]
        self.errors = ErrorTable(names, baselines, bootstrap=bootstrap).to(self.device)
        self.looked_at = [name for name in names if name != SHUFFLED]
        self.tables = tables_of(medium, self.looked_at, baselines, bootstrap, chosen or {})
        self.stochastic = StochasticScores(num_samples, bootstrap).to(self.device) if num_samples > 1 else None
        self.contracted = [m for m, role in self.roles.items() if role != "control"] + ["truth"]
        self.contract: dict[int, dict[str, KeyframeContract]] = {}
        self.ratios: list[tuple[int, list[str], Tensor]] = []

    @torch.no_grad()
    def update(self, corrupted: Corrupted, level: int, first: int) -> None:
        """Adds a batch of clips of one level.

        Args:
            corrupted: at ``tau = 1``, on the refiner's device.
            level: that all of its clips have.
            first: index of its first clip among all; the others follow.
        """
        index = first + torch.arange(corrupted.clip.batch_size, device=self.device)
        samples = self.methods.samples(corrupted)
        clips = self.methods(corrupted, samples)
        self.errors.update(clips, corrupted.clean, corrupted.known, corrupted.level, index)
        if self.stochastic is not None and samples is not None:
            self.stochastic.update(samples, corrupted.clean, corrupted.known, corrupted.level, index)
        contracts = self.contract.setdefault(level, {m: KeyframeContract().to(self.device) for m in self.contracted})
        for method, contract in contracts.items():
            contract.update(clips[method], corrupted.values, corrupted.known)
        mean = self.methods.mean
        mse = {m: missing_frame_mse(clips[m], corrupted.clean, corrupted.missing) for m in (mean, BASELINE)}
        self.ratios.append((level, corrupted.clip.keys, error_ratio(mse[mean], mse[BASELINE])))
        decoded = len(index) if self.scores_clips is None else min(len(index), self.scores_clips - first)
        if decoded > 0:
            self.tables.update({m: clips[m][:decoded] for m in self.looked_at}, corrupted, level, index[:decoded])

    def compute(self, about: dict[str, Any]) -> Evaluation:
        """All figures of the clips so far, with ``about`` in front."""
        if not self.ratios:
            raise BadValue("clips", 0, "at least 2")
        about = about | {"measured in": self.medium.measured_in}
        result = Evaluation(about, self.roles, BASELINE, self.errors.compute(), **self.tables.compute())
        if self.stochastic is not None and self.methods.sampler_name is not None:
            result.stochastic = {self.methods.sampler_name: self.stochastic.compute()}
        result.contract = {
            m: [{"level": s, "values": self.contract[s][m].compute()} for s in sorted(self.contract)]
            for m in self.contracted
        }
        return result

    def ranking(self, level: int) -> list[ClipError]:
        """The clips at a level, best first."""
        found = [
            ClipError(key, s, ratio)
            for s, keys, ratios in self.ratios
            if s == level
            for key, ratio in zip(keys, ratios.tolist(), strict=True)
        ]
        return sorted(found, key=lambda clip: clip.ratio)
