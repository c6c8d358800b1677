"""Measures a refiner, its baselines and controls on held-out clips."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted
from interp_refiner.data.medium import Medium
from interp_refiner.evaluation.evaluator.methods import BASELINE, Methods
from interp_refiner.evaluation.measures import (
    SHUFFLED,
    Batch,
    Bootstrap,
    Design,
    Metric,
    SeveralSamples,
    error_ratio,
    missing_frame_mse,
    standard,
)
from interp_refiner.evaluation.records.records import Evaluation
from interp_refiner.evaluation.statistics.bootstrap import DEFAULT_BOOTSTRAP


@dataclass(frozen=True)
class ClipError:
    """The error of the one-jump estimate on one clip at one level.

    Attributes:
        key: the clip's key.
        level: the level of sparsity.
        ratio: its missing-frame MSE relative to linear interpolation's.
    """

    key: str
    level: int
    ratio: float


class Evaluator:
    """Takes corrupted clips batch by batch and makes an :class:`Evaluation` of all :class:`Methods`.

    Metrics on latents use every clip; metrics on decoded clips use the first ``scores_clips`` clips.

    Args:
        methods: the compared methods; with 2 or more samples per clip, energy score and spread are measured.
        scores_clips: number of clips that are decoded; None for all.
        bootstrap: settings of the confidence intervals.
        chosen: metrics in addition to the standard ones.

    Raises:
        BadValue: a count below 1, a metric that does not apply to such clips, or two measures of one name.
    """

    def __init__(
        self,
        methods: Methods,
        scores_clips: int | None = None,
        bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
        chosen: Sequence[Metric] = (),
    ):
        if scores_clips is not None and scores_clips < 1:
            raise BadValue("scores_clips", scores_clips, "at least 1, or null for all")
        self.methods, self.medium, self.scores_clips = methods, methods.medium, scores_clips
        self.roles, self.device = methods.roles, methods.refiner.device
        metrics: list[Metric] = [*standard(self.medium.domains), *chosen]
        if methods.num_samples > 1 and methods.sampler_name is not None:
            metrics.append(SeveralSamples(methods.num_samples, methods.sampler_name))
        check(metrics, self.medium)
        design = Design(self.roles, methods.baselines, bootstrap)
        self.tables = [(metric, metric.to(self.device).table(design).to(self.device)) for metric in metrics]
        self.ratios: list[tuple[int, list[str], Tensor]] = []

    @torch.no_grad()
    def update(self, corrupted: Corrupted, level: int, first: int) -> None:
        """Adds a batch of clips of one level.

        Args:
            corrupted: at ``tau = 1``, on the refiner's device.
            level: the level of all its clips.
            first: index of its first clip among all clips; the others follow.
        """
        index = first + torch.arange(corrupted.clip.batch_size, device=self.device)
        samples = self.methods.samples(corrupted)
        clips = self.methods(corrupted, samples)
        decoded = len(index) if self.scores_clips is None else min(len(index), self.scores_clips - first)
        batches = dict(self._batches(corrupted, clips, samples, index, decoded))
        for metric, table in self.tables:
            if metric.domain in batches:
                table.update(batches[metric.domain])
        mean = self.methods.mean
        mse = {m: missing_frame_mse(clips[m], corrupted.clean, corrupted.missing) for m in (mean, BASELINE)}
        self.ratios.append((level, corrupted.clip.keys, error_ratio(mse[mean], mse[BASELINE])))

    def _batches(
        self,
        corrupted: Corrupted,
        clips: Mapping[str, Tensor],
        samples: Tensor | None,
        index: Int[Tensor, " b"],
        decoded: int,
    ) -> Iterator[tuple[str, Batch]]:
        """The clips by domain: all of them as latents, the first ones also decoded."""
        whole = Batch(clips, corrupted.clean, corrupted.known, corrupted.level, index)
        yield "latents", replace(whole, values=corrupted.values, clip=corrupted.clip, samples=samples)
        if decoded <= 0:
            return
        n, views = decoded, {m: self.medium.views(clip[:decoded]) for m, clip in clips.items() if m != SHUFFLED}
        frames = torch.tensor(self.medium.latent_frame(corrupted.known.shape[1]), device=self.device)
        for domain in next(iter(views.values())):
            shown = {method: view[domain] for method, view in views.items()}
            some = Batch(shown, shown["truth"], corrupted.known[:n], corrupted.level[:n], index[:n], frames)
            yield domain, replace(some, clip=corrupted.clip.select(list(range(n))))

    def compute(self, about: dict[str, Any]) -> Evaluation:
        """The evaluation of all clips so far, with the description ``about``."""
        if not self.ratios:
            raise BadValue("clips", 0, "at least 2")
        about = about | {"measured in": self.medium.measured_in}
        records = [record for _, table in self.tables for record in table.compute()]
        found = {record.measure for record in records}
        measures = [m for metric, _ in self.tables for one in metric.measures for m in one.family if m.name in found]
        return Evaluation(about, self.roles, BASELINE, measures, records)

    @property
    def sparsest(self) -> int:
        """The sparsest level so far."""
        return max(level for level, *_ in self.ratios)

    def ranking(self, level: int) -> list[ClipError]:
        """The clips at a level, best first."""
        found = [
            ClipError(key, s, ratio)
            for s, keys, ratios in self.ratios
            if s == level
            for key, ratio in zip(keys, ratios.tolist(), strict=True)
        ]
        return sorted(found, key=lambda clip: clip.ratio)


def check(metrics: Sequence[Metric], medium: Medium) -> None:
    """Raises :class:`BadValue` for metrics that do not apply to the clips, and for two measures of one name."""
    for metric in metrics:
        if metric.domain not in medium.domains:
            allowed = f"a metric of {' or '.join(medium.domains)}; this one measures {metric.domain}"
            raise BadValue("metric", metric.measures[0].name, allowed)
    names = Counter(m.name for metric in metrics for one in metric.measures for m in one.family)
    if twice := [name for name, count in names.items() if count > 1]:
        raise BadValue("metric", twice[0], "a measure with a unique name")
