"""Computes values that are functions of means over clips, by group of frames, with bootstrap intervals."""

from abc import abstractmethod
from typing import Any, ClassVar, final

import torch
import torchmetrics
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from interp_refiner.core import BadValue, Measure, neighbours
from interp_refiner.evaluation.measures.metric import Batch, Design, Metric, Record, Table, checked
from interp_refiner.training.missing_frame import ROUNDING, error_ratio

KEYS = ("level", "gap", "offset")


class RowMetric(Metric):
    """A metric whose results are functions of means over clips.

    Attributes:
        tolerance: relative difference below which two results of a clip count as equal.
        groupings: the groups of frames for which results are computed.
    """

    tolerance: ClassVar[float] = ROUNDING
    groupings: ClassVar[tuple[tuple[str, ...], ...]]

    @property
    def values(self) -> tuple[str, ...]:
        """The names of the values that :meth:`rows` returns."""
        return tuple(measure.name for measure in self.measures)

    @abstractmethod
    def rows(self, estimate: Float[Tensor, "b c n *space"], batch: Batch) -> dict[str, Tensor]:
        """The values of one method's clips, ``[b, n]`` or ``[b]``, by name."""

    def figures(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """The result of every measure, computed elementwise from means of the values."""
        return means

    def table(self, design: Design) -> Table:
        return ClipTable(self, design)


class FrameMetric(RowMetric):
    """A metric with one number per frame, averaged over missing frames by level, gap, and offset in the gap."""

    groupings = (("level",), ("gap",), ("gap", "offset"), ("level", "gap", "offset"))

    @abstractmethod
    def forward(
        self, estimate: Float[Tensor, "b c n *space"], clean: Float[Tensor, "b c n *space"]
    ) -> Float[Tensor, "b n"]:
        """One number per frame; pixels are RGB in 0..1."""

    def rows(self, estimate: Float[Tensor, "b c n *space"], batch: Batch) -> dict[str, Tensor]:
        return {self.measures[0].name: self(estimate, batch.clean)}


class ClipMetric(RowMetric):
    """A metric of whole clips, by level."""

    groupings = (("level",),)


@final
class ClipTable(torchmetrics.Metric):
    """Rows of values, averaged within a clip, then over clips, then turned into figures.

    For every group g of rows (all rows of one level, of one gap, ...), clip i and method m

        x_ig(m)   = mean of the clip's rows in the group       (a clip without such a row is absent from the group)
        figure(m) = figures(mean_i x_ig(m))

    A measure with ``compared="ratio"`` has, for a baseline n,

        ratio(m, n)         = figure(m) / figure(n)                                   (1 where both are 0)
        better, worse(m, n) = share of clips whose own figure is better, worse than n's by more than ``tolerance``

    and one with ``compared="difference"`` has ``gain(m, n) = figure(m) - figure(n)``. Intervals come from the same
    formulas over resampled clips; all results share one set of resamples. There are no comparisons by offset.

    A gap is the distance between the two keyframes around a missing frame; the offset is the distance from the left one
    (1..gap-1). Outside the outermost keyframes the gap counts as 0, and the offset is the distance from the nearest
    keyframe. A metric of whole clips has one row per clip that has a missing frame.

    All rows are kept (float32, sample indices up to 2^24), because means over resampled clips need them. ``compute``
    gathers the rows of all processes; each clip is on one of them.

    Args:
        metric: the metric.
        design: methods, baselines and resampling.
    """

    is_differentiable = False
    full_state_update = False

    rows: Any

    def __init__(self, metric: RowMetric, design: Design):
        super().__init__()
        self.metric, self.design = metric, design
        self.methods = metric.judged(design.methods)
        self.pairs = design.pairs(self.methods)
        # flat, because a process without rows contributes torch.tensor([]), which must gather with the others
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, batch: Batch) -> None:
        """Adds a batch. It synchronises with the device only if the metric does."""
        estimates, known = checked(batch, self.methods).estimates, batch.known
        found = [value for method in self.methods for value in self._values(estimates[method], batch)]
        if found[0].ndim == 2:
            near = neighbours(known)
            keys = [batch.level.unsqueeze(1).expand_as(known), near.gap, near.distance_left]
            columns = [batch.in_frames(x) for x in (batch.sample.unsqueeze(1).expand_as(known), ~known, *keys)]
        else:
            columns = [batch.sample, ~known.all(1), *[batch.level] * len(KEYS)]
        counted = columns[1]
        columns += [value.masked_fill(~counted, 0.0) for value in found]
        self.rows.append(torch.stack([column.flatten().float() for column in columns], 1).flatten())

    def _values(self, estimate: Tensor, batch: Batch) -> list[Tensor]:
        found = self.metric.rows(estimate, batch)
        b, n = estimate.shape[0], estimate.shape[2]
        expected = ((b, n),) if isinstance(self.metric, FrameMetric) else ((b,),)
        for name in self.metric.values:
            shape = tuple(found[name].shape)
            if shape not in expected:
                raise BadValue(
                    f"{type(self.metric).__name__} {name}", shape, f"{expected[0]}, one number per {self._unit}"
                )
        return [found[name] for name in self.metric.values]

    @property
    def _unit(self) -> str:
        return "frame" if isinstance(self.metric, FrameMetric) else "clip"

    def compute(self) -> list[Record]:
        """The records, one grouping after the other, with groups in ascending order."""
        rows = dim_zero_cat(self.rows).cpu().double() if len(self.rows) else torch.zeros(0, dtype=torch.float64)
        rows = rows.view(-1, 2 + len(KEYS) + len(self.methods) * len(self.metric.values))
        rows = rows[rows[:, 1] > 0]
        if len(rows) == 0:
            return []
        clips, clip = rows[:, 0].unique(return_inverse=True)
        weights = self.design.bootstrap.weights(len(clips))
        keys, values = rows[:, 2 : 2 + len(KEYS)], rows[:, 2 + len(KEYS) :]
        groupings = self.metric.groupings
        return [record for names in groupings for record in self._records(names, clip, keys, values, weights)]

    def _records(
        self,
        names: tuple[str, ...],
        clip: Int[Tensor, " r"],
        keys: Float[Tensor, "r k"],
        values: Float[Tensor, "r v"],
        weights: Float[Tensor, "s n"],
    ) -> list[Record]:
        groups, group = keys[:, [KEYS.index(name) for name in names]].unique(dim=0, return_inverse=True)
        shape = (weights.shape[1], len(groups))
        cell = clip * len(groups) + group
        count = torch.zeros(shape[0] * shape[1], dtype=torch.float64).index_add_(0, cell, torch.ones_like(values[:, 0]))
        sums = torch.zeros(len(count), values.shape[1], dtype=torch.float64).index_add_(0, cell, values)
        per_clip = (sums / count.clamp(min=1).unsqueeze(1)).view(*shape, len(self.methods), -1)
        present = count.view(shape) > 0
        compares = "offset" not in names

        def figures(weight: Float[Tensor, "s n"]) -> dict[tuple[str, str, str | None], Tensor]:
            drawn = weight @ present.double()

            def mean(x: Tensor) -> Float[Tensor, "s g"]:
                return weight @ x.double().where(present, 0.0) / drawn

            own = self._own(torch.stack([mean(x) for x in per_clip.flatten(2).unbind(-1)], -1).unflatten(-1, by_method))
            found: dict[tuple[str, str, str | None], Tensor] = {(n, m, None): x for (n, m), x in own.items()}
            for measure in self.metric.measures if compares else ():
                for m, n in self.pairs:
                    a, b = own[measure.name, m], own[measure.name, n]
                    if measure.compared == "difference":
                        found[f"{measure.name}_gain", m, n] = a - b
                    elif measure.compared == "ratio":
                        found[f"{measure.name}_ratio", m, n] = error_ratio(a, b)
                        x, y = clip_figures[measure.name, m], clip_figures[measure.name, n]
                        found[f"{measure.name}_better", m, n] = mean(self._beats(measure, x, y))
                        found[f"{measure.name}_worse", m, n] = mean(self._beats(measure, y, x))
            return found

        by_method = (len(self.methods), len(self.metric.values))
        clip_figures = self._own(per_clip)
        whole, resampled = figures(torch.ones_like(weights[:1])), figures(weights)
        intervals = {key: (whole[key][0], *self.design.bootstrap.interval(x)) for key, x in resampled.items()}
        places: list[dict[str, Any]] = [dict(zip(names, map(int, key), strict=True)) for key in groups.tolist()]
        clips = present.sum(0).tolist()
        return [
            Record(name, method, x[i].item(), low[i].item(), high[i].item(), against, clips=clips[i], **place)
            for i, place in enumerate(places)
            for (name, method, against), (x, low, high) in intervals.items()
        ]

    def _own(self, means: Float[Tensor, "*n m v"]) -> dict[tuple[str, str], Float[Tensor, "*n"]]:
        """The results of every method, from its means."""
        return {
            (name, method): figure
            for i, method in enumerate(self.methods)
            for name, figure in self.metric.figures(
                {value: means[..., i, k] for k, value in enumerate(self.metric.values)}
            ).items()
        }

    def _beats(self, measure: Measure, x: Tensor, y: Tensor) -> Tensor:
        """Whether a clip's result x is better than y by more than the tolerance."""
        low, high = (y, x) if measure.better == "higher" else (x, y)
        return low < (1 - self.metric.tolerance) * high
