"""Measurements of a forward process, by level: gaps, sizes and errors."""

from collections import defaultdict
from dataclasses import asdict
from math import nan
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import Corrupted, masked_mean
from interp_refiner.evaluation.measures import missing_frame_mse, paired_bootstrap
from interp_refiner.evaluation.records.records import finite

Row = dict[str, Any]
"""One schedule at one level; plain, for JSON."""


def clip_figures(corrupted: Corrupted, reference: Bool[Tensor, "b t"] | None = None) -> dict[str, Float[Tensor, " b"]]:
    """Measurements of every clip of a batch, at ``tau = 1``; see :class:`Diagnosis`.

    Args:
        corrupted: clips of one level.
        reference: keyframes to compare with, for the overlap; None leaves it out.
    """
    known, missing, near = corrupted.known, corrupted.missing, corrupted.neighbours
    count = known.sum(1)
    first, last = near.right[:, 0], near.left[:, -1]
    squared = {
        "corruption": missing_frame_mse(corrupted.x, corrupted.clean, missing),
        "noise": missing_frame_mse(corrupted.x, corrupted.interpolation, missing),
        "interpolation": missing_frame_mse(corrupted.interpolation, corrupted.clean, missing),
    }
    figures = squared | {
        "keyframes": count.float(),
        "mean_gap": (last - first) / (count - 1).clamp(min=1),
        "missing_gap": masked_mean(near.gap.float(), missing & ~near.one_sided),
        "largest_gap": near.gap.amax(1).clamp(min=1).float(),
    }
    if reference is not None:
        frame = near.frame
        free = known & ~corrupted.plan.given & (frame > 0) & (frame < len(frame) - 1)
        figures["overlap"] = (free & reference).sum(1) / free.sum(1)
    return figures


class Diagnosis:
    """Collects measurements of several schedules over clips. A row has

    - ``keyframes``: K; ``mean_gap``: from one keyframe to the next; ``missing_gap``: the gap around a missing frame;
      ``largest_gap``: of a clip (all of these are means over clips, in frames); ``longest_gap``: the largest over all
      clips;
    - ``corruption_rms``: RMS of ``x - z0``; ``noise_rms``: of ``x - zbar``; ``correction_rms``: of ``z0 - zbar``; on
      missing frames, in units of latent standard deviation;
    - ``interpolation_mse``: on missing frames, mean over clips, with its standard error ``interpolation_mse_se``;
    - ``mse_ratio``: that error relative to every other schedule's at the same level, on the same clips: ``{name:
      {value, low, high}}`` with 95% paired bootstrap intervals; None if there is no other schedule;
    - ``overlap``: share of the chosen keyframes (without ends and given ones) that the reference also has; None if
      there is no reference, or nothing to choose.

    Values that are not numbers are None, for JSON.
    """

    def __init__(self) -> None:
        self.figures: dict[tuple[str, int], dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))

    def update(
        self, schedule: str, level: int, corrupted: Corrupted, reference: Bool[Tensor, "b t"] | None = None
    ) -> None:
        """Adds a batch of clips that were corrupted at one level with one schedule."""
        for name, values in clip_figures(corrupted, reference).items():
            self.figures[schedule, level][name].append(values.double().cpu())

    def rows(self) -> list[Row]:
        """One row per level and schedule; levels ascending, schedules in the order of their first batch."""
        order = sorted(self.figures, key=lambda key: key[1])
        clips = {key: {name: torch.cat(v) for name, v in self.figures[key].items()} for key in order}
        return [self._row(*key, clips[key]) | {"mse_ratio": _ratios(key, clips)} for key in order]

    @staticmethod
    def _row(schedule: str, level: int, clips: dict[str, Tensor]) -> Row:
        means = {name: values.nanmean().item() for name, values in clips.items()}
        error = clips["interpolation"]
        row = {
            "schedule": schedule,
            "level": level,
            "clips": len(error),
            **{name: means[name] for name in ("keyframes", "mean_gap", "missing_gap", "largest_gap")},
            "longest_gap": int(clips["largest_gap"].max()),
            "corruption_rms": means["corruption"] ** 0.5,
            "noise_rms": means["noise"] ** 0.5,
            "correction_rms": means["interpolation"] ** 0.5,
            "interpolation_mse": means["interpolation"],
            "interpolation_mse_se": error.std().item() / len(error) ** 0.5 if len(error) > 1 else nan,
            "overlap": means.get("overlap"),
        }
        return finite(row)


def _ratios(
    own: tuple[str, int], clips: dict[tuple[str, int], dict[str, Tensor]]
) -> dict[str, dict[str, float]] | None:
    """The ratio of the error of ``own = (schedule, level)`` to those of the others at this level."""
    others = [(name, level) for name, level in clips if level == own[1] and name != own[0]]
    error = clips[own]["interpolation"]
    return {key[0]: asdict(paired_bootstrap(error, clips[key]["interpolation"])) for key in others} or None
