"""Figures by group of frames, each with its bootstrap interval over clips."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from interp_refiner.core import BadValue, choice
from interp_refiner.evaluation.measures.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, Interval

Record = dict[str, Any]
"""One group of a table: its keys, ``clips``, ``frames`` and ``values: {name: {value, low, high}}``; plain, for JSON."""


class ClipTable(Metric, ABC):
    """Rows of values, averaged within a clip, then over clips, then turned into figures.

    For every group g of rows (all rows of one level, of one gap, ...) and clip i

        x_ig = mean of the clip's rows in the group       (a clip without such a row is absent from the group)
        figure_g = summary(mean_i clip_values(x_ig))

    and the interval of ``figure_g`` is that of the same formula over resampled clips. A figure is any function of means
    over clips, so that a ratio is a ratio of means, and everything shares one set of resamples.

    Rows are kept (float32, sample indices up to 2^24), since a mean over resampled clips needs them; ``compute`` sees
    the rows of all processes, each clip on one of them.

    Args:
        value_names: the columns of values of a row.
        bootstrap: how the clips are resampled.
    """

    is_differentiable = False
    full_state_update = False

    key_names: ClassVar[tuple[str, ...]]
    groupings: ClassVar[tuple[tuple[str, ...], ...]]
    rows: Any

    def __init__(self, value_names: Sequence[str], bootstrap: Bootstrap = DEFAULT_BOOTSTRAP):
        super().__init__()
        self.value_names, self.bootstrap = list(value_names), bootstrap
        # flat, since a process without rows contributes torch.tensor([]), which must gather with everyone else's
        self.add_state("rows", [], dist_reduce_fx="cat")

    @abstractmethod
    def clip_values(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """From the values averaged within each clip, ``[clips, groups]``, what is averaged over clips."""

    @abstractmethod
    def summary(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """From the averages over clips, ``[resamples, groups]``, the figures, elementwise."""

    def add_rows(
        self,
        sample: Int[Tensor, " r"],
        counted: Bool[Tensor, " r"],
        keys: Mapping[str, Int[Tensor, " r"]],
        values: Mapping[str, Float[Tensor, " r"]],
    ) -> None:
        """Adds r rows without waiting for the device; rows that do not count are dropped when computing.

        Args:
            sample: the clip's index in its dataset, the same at every level and on no other process.
            counted: rows that take part; the values of others are not read.
            keys: one entry per name in ``key_names``.
            values: one entry per name in ``value_names``.
        """
        columns = [sample, counted, *(keys[k] for k in self.key_names)]
        columns += [values[name].masked_fill(~counted, 0.0) for name in self.value_names]
        self.rows.append(torch.stack([column.float() for column in columns], 1).flatten())

    def compute(self) -> list[Record]:
        """One record per group, grouping by grouping, groups in ascending order of their keys."""
        rows = dim_zero_cat(self.rows).cpu().double() if len(self.rows) else torch.zeros(0, dtype=torch.float64)
        rows = rows.view(-1, 2 + len(self.key_names) + len(self.value_names))
        rows = rows[rows[:, 1] > 0]
        if len(rows) == 0:
            return []
        clips, clip = rows[:, 0].unique(return_inverse=True)
        weights = self.bootstrap.weights(len(clips))
        keys, values = rows[:, 2:].split([len(self.key_names), len(self.value_names)], 1)
        return [record for names in self.groupings for record in self._records(names, clip, keys, values, weights)]

    def _records(
        self,
        names: tuple[str, ...],
        clip: Int[Tensor, " r"],
        keys: Float[Tensor, "r k"],
        values: Float[Tensor, "r v"],
        weights: Float[Tensor, "s n"],
    ) -> list[Record]:
        columns = [self.key_names.index(name) for name in names]
        groups, group = keys[:, columns].unique(dim=0, return_inverse=True)
        shape = (weights.shape[1], len(groups))
        cell = clip * len(groups) + group
        count = torch.zeros(shape[0] * shape[1], dtype=torch.float64).index_add_(0, cell, torch.ones_like(values[:, 0]))
        sums = torch.zeros(len(count), values.shape[1], dtype=torch.float64).index_add_(0, cell, values)
        means = (sums / count.clamp(min=1).unsqueeze(1)).view(*shape, -1).unbind(-1)
        present = count.view(shape) > 0
        per_clip = self.clip_values(dict(zip(self.value_names, means, strict=True)))

        def figures(weight: Float[Tensor, "s n"]) -> dict[str, Tensor]:
            drawn = weight @ present.double()
            return self.summary({k: weight @ v.double().where(present, 0.0) / drawn for k, v in per_clip.items()})

        whole, resampled = figures(torch.ones_like(weights[:1])), figures(weights)
        intervals = {k: (whole[k][0], *self.bootstrap.interval(v)) for k, v in resampled.items()}
        return [
            dict(zip(names, map(int, key), strict=True))
            | {"clips": int(present[:, i].sum()), "frames": int((group == i).sum())}
            | {"values": {k: asdict(Interval(*(x[i].item() for x in three))) for k, three in intervals.items()}}
            for i, key in enumerate(groups.tolist())
        ]


def check_methods(estimates: Mapping[str, Tensor], methods: Sequence[str]) -> None:
    """Raises :class:`BadValue` unless there is exactly one estimate for every method."""
    if set(estimates) != set(methods):
        raise BadValue("estimates", sorted(estimates), f"exactly {sorted(methods)}")


def comparisons(methods: Sequence[str], baselines: Sequence[str]) -> list[tuple[str, str]]:
    """Every (method, baseline) with different names.

    Raises:
        BadValue: a baseline that is no method.
    """
    for baseline in baselines:
        choice("baselines", baseline, methods)
    return [(method, baseline) for method in methods for baseline in baselines if method != baseline]
