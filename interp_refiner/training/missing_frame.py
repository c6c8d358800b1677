"""Squared error of refinement and of interpolation on missing frames, by level."""

from collections.abc import Mapping
from typing import Any, SupportsFloat

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric

from interp_refiner.core import BadValue, Measure, at_least, frame_mean, masked_mean

ROUNDING = 1e-5  # relative: errors that differ by less are equal
FIGURES = (  # of a validation, by level
    Measure("interpolation_mse", "interpolation MSE", digits=4),
    Measure("refined_mse", "refined MSE", digits=4),
    Measure("ratio", "refined / interpolation"),
    Measure("improved_share", "clips improved", "higher", percent=True),
)


def frame_squared_error(
    estimate: Float[Tensor, "b c t *space"], clean: Float[Tensor, "b c t *space"]
) -> Float[Tensor, "b t"]:
    """Mean squared error of every frame, in float32."""
    return frame_mean((estimate.float() - clean.float()).square())


def missing_frame_mse(
    estimate: Float[Tensor, "b c t *space"], clean: Float[Tensor, "b c t *space"], missing: Bool[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Mean squared error over the missing frames of every sample, in float32; 0 where no frame is missing.

    Known frames are never read.
    """
    return masked_mean(frame_squared_error(estimate, clean), missing)


def error_ratio(error: Float[Tensor, "*n"], reference: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """``error / reference``; 1 if both are 0."""
    return torch.where((error == 0) & (reference == 0), 1.0, error / reference)


def improved(error: Float[Tensor, "*n"], reference: Float[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
    """Whether an error is smaller than ``reference`` by more than the rounding of float32 sums."""
    return error < (1 - ROUNDING) * reference


class ErrorByLevel(Metric):
    """Averages two errors per sample, of refinement and of interpolation, by level.

    With ``e_b`` an error of sample b and ``sum_s`` the sum over the samples at level s,

        refined_mse    = sum_s e_b(refined) / n_s           interpolation_mse = sum_s e_b(interpolation) / n_s
        ratio          = sum_s e_b(refined) / sum_s e_b(interpolation)    (1 where both are 0)
        improved_share = sum_s [e_b(refined) < e_b(interpolation)] / n_s          (by more than rounding)

    ``mean/...`` averages errors and shares over the levels with equal weights; ``mean/ratio`` is the ratio of the mean
    errors. Samples without a missing frame do not count.

    States are sums in float64, so the result is the same on any number of processes.

    Args:
        num_levels: S, the sparsest level.

    Raises:
        BadValue: ``num_levels`` below 1, or, when computed, a sample whose level was not in 1..S.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    refined: Tensor
    interpolation: Tensor
    improved: Tensor
    count: Tensor
    outside: Tensor

    def __init__(self, num_levels: int):
        super().__init__()
        at_least(1, num_levels=num_levels)
        self.num_levels = num_levels
        for name in ("refined", "interpolation", "improved", "count"):
            self.add_state(name, torch.zeros(num_levels, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("outside", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def _apply(self, *arguments: Any, **options: Any) -> Any:
        """Moves the sums to another device but keeps them in float64, even if the model becomes bfloat16."""
        super()._apply(*arguments, **options)
        for name in ("refined", "interpolation", "improved", "count"):
            setattr(self, name, getattr(self, name).double())
        return self

    def update(
        self,
        refined: Float[Tensor, " b"],
        interpolated: Float[Tensor, " b"],
        counted: Bool[Tensor, " b"],
        level: Int[Tensor, " b"],
    ) -> None:
        """Adds the errors of one batch, without a host sync; samples that are not ``counted`` are left out."""
        levels = torch.arange(1, self.num_levels + 1, device=level.device)
        member = (level.unsqueeze(1) == levels) & counted.unsqueeze(1)

        def sum_by_level(value: Tensor) -> Tensor:
            return torch.where(member, value.double().unsqueeze(1), 0.0).sum(0)

        self.refined += sum_by_level(refined)
        self.interpolation += sum_by_level(interpolated)
        self.improved += sum_by_level(improved(refined, interpolated))
        self.count += member.sum(0)
        self.outside += (counted & ~member.any(1)).sum()

    def compute(self) -> dict[str, Tensor]:
        """``level_<s>/{interpolation_mse, refined_mse, ratio, improved_share}`` and ``mean/...``, as float32 scalars.

        Levels without samples are left out; without any sample the result is empty.
        """
        if self.outside > 0:
            raise BadValue(
                "level", f"outside 1..{self.num_levels} in {self.outside} samples", "a level in 1..num_levels"
            )
        seen = self.count > 0
        levels = seen.nonzero().flatten()
        if len(levels) == 0:
            return {}
        count, refined, interpolation = self.count[seen], self.refined[seen], self.interpolation[seen]
        refined_mse, interpolation_mse, share = refined / count, interpolation / count, self.improved[seen] / count
        table = {
            "interpolation_mse": (interpolation_mse, interpolation_mse.mean()),
            "refined_mse": (refined_mse, refined_mse.mean()),
            "ratio": (error_ratio(refined, interpolation), error_ratio(refined_mse.mean(), interpolation_mse.mean())),
            "improved_share": (share, share.mean()),
        }
        rows = [(f"level_{s + 1}", i) for i, s in enumerate(levels.tolist())]
        by_level = {f"{row}/{name}": values[i].float() for row, i in rows for name, (values, _) in table.items()}
        return by_level | {f"mean/{name}": mean.float() for name, (_, mean) in table.items()}


class MissingFrameError(ErrorByLevel):
    """Missing-frame error of the refiner and of its interpolation, by level; see :class:`ErrorByLevel`.

    ``e_b`` is the mean squared error over the missing frames of sample b; samples without one do not count.
    """

    def update(  # type: ignore[override]
        self,
        estimate: Float[Tensor, "b c t *space"],
        interpolation: Float[Tensor, "b c t *space"],
        clean: Float[Tensor, "b c t *space"],
        missing: Bool[Tensor, "b t"],
        level: Int[Tensor, " b"],
    ) -> None:
        """Adds one batch, without a host sync."""
        refined, interpolated = (missing_frame_mse(clip, clean, missing) for clip in (estimate, interpolation))
        super().update(refined, interpolated, missing.any(1), level)


def level_rows(metrics: Mapping[str, SupportsFloat | None]) -> dict[str, dict[str, float | None]]:
    """``{"val/level_2/ratio": r, ...}`` -> ``{"level_2": {"ratio": r, ...}, ...}``, levels in order, the mean last."""
    rows: dict[str, dict[str, float | None]] = {}
    for name, value in metrics.items():
        match name.split("/"):
            case ["val", group, figure]:
                rows.setdefault(group, {})[figure] = None if value is None else float(value)

    def place(group: str) -> tuple[bool, int, str]:
        number = group.removeprefix("level_")
        return group == "mean", int(number) if number.isdecimal() else 0, group

    return {group: rows[group] for group in sorted(rows, key=place)}


def level_cells(metrics: Mapping[str, SupportsFloat | None]) -> dict[str, list[str]]:
    """The :data:`FIGURES` of a validation as text: for every level, then for their mean."""
    return {
        group.removeprefix("level_"): [measure.text(row.get(measure.name)) for measure in FIGURES]
        for group, row in level_rows(metrics).items()
    }


def validated_clips(limit: int | float | None) -> str:
    """The clips of the last validation in words, for this ``trainer.limit_val_batches`` (Lightning's 1.0 means all)."""
    if limit is None or (isinstance(limit, float) and limit == 1):
        return "all held-out clips"
    return f"held-out clips within trainer.limit_val_batches={limit:g}"
