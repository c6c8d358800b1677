"""Errors and scores of missing frames by (level, gap, offset)."""

from abc import ABC
from collections.abc import Callable, Mapping
from typing import final

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp_refiner.core import neighbours
from interp_refiner.evaluation.measures.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap
from interp_refiner.evaluation.measures.clip_table import ClipTable, check_methods, comparisons
from interp_refiner.evaluation.measures.image_quality import psnr, ssim
from interp_refiner.training.missing_frame import error_ratio, frame_squared_error, improved

FrameMeasure = Callable[[Tensor, Tensor], Tensor]
"""``(estimate, clean) -> [b, t]``: one number per frame, such as :func:`psnr`."""


class FrameTable(ClipTable, ABC):
    """Measures of missing frames for several methods, by level, gap and offset.

    The gap of a missing frame is the distance between its two keyframes, its offset the distance from the left one
    (1..gap-1). Outside the outermost keyframes there is no gap: it counts as 0, and the offset is the distance from the
    only keyframe.

    Args:
        methods: the estimates that every update brings, for example ``["refined", "interpolation", "linear"]``.
        baselines: those among them that the others are compared with.
        measures: what is measured of every frame, by name; a module among them moves with the table.
        bootstrap: of the intervals.

    Raises:
        BadValue: a baseline that is no method.
    """

    key_names = ("level", "gap", "offset")
    groupings = (("level",), ("gap",), ("gap", "offset"), ("level", "gap", "offset"))

    def __init__(
        self,
        methods: list[str],
        baselines: list[str],
        measures: Mapping[str, FrameMeasure],
        bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    ):
        super().__init__([f"{name}/{method}" for name in measures for method in methods], bootstrap)
        self.methods, self.measures = list(methods), dict(measures)
        self.modules_among_measures = nn.ModuleList(f for f in measures.values() if isinstance(f, nn.Module))
        self.compared = [(name, m, n) for name in measures for m, n in comparisons(methods, baselines)]

    def update(
        self,
        estimates: dict[str, Float[Tensor, "b c n *space"]],
        clean: Float[Tensor, "b c n *space"],
        known: Bool[Tensor, "b t"],
        level: Int[Tensor, " b"],
        sample: Int[Tensor, " b"],
        latent_frame: Int[Tensor, " n"] | None = None,
    ) -> None:
        """Adds one batch of clips of n frames; waits for the device only if a measure does.

        Args:
            estimates: one batch of clips per method.
            clean: the true clips.
            known: the keyframes among the t latent frames.
            level: of each clip.
            sample: index of each clip in its dataset.
            latent_frame: the latent frame that each of the n frames belongs to; None where n = t.

        Raises:
            BadValue: other estimates than ``methods``.
        """
        check_methods(estimates, self.methods)
        near = neighbours(known)
        keys = [level.unsqueeze(1).expand_as(known), near.gap, near.distance_left]
        columns = [sample.unsqueeze(1).expand_as(known), ~known, *keys]
        if latent_frame is not None:
            columns = [column[:, latent_frame] for column in columns]
        sample_of, missing, *keys = (column.flatten() for column in columns)
        pairs = [(name, m) for name in self.measures for m in self.methods]
        values = {f"{name}/{m}": self.measures[name](estimates[m], clean).flatten() for name, m in pairs}
        self.add_rows(sample_of, missing, dict(zip(self.key_names, keys, strict=True)), values)


@final
class ErrorTable(FrameTable):
    """Errors of missing frames: the lower, the better.

    Figures of a group of frames, with ``e_i(m)`` the mean error of method m over clip i's frames, n a baseline:

        e/m          = mean_i e_i(m)
        e_ratio/m/n  = mean_i e_i(m) / mean_i e_i(n)        (1 where both are 0)
        e_better/m/n = share of clips with e_i(m) < e_i(n)          (by more than rounding)

    where e is the measure's name: ``mse``, and such as ``st_lpips``.

    Args:
        methods, baselines, bootstrap: see :class:`FrameTable`.
        measures: the errors; None for ``{"mse": frame_squared_error}``.
    """

    higher_is_better = False

    def __init__(
        self,
        methods: list[str],
        baselines: list[str],
        measures: Mapping[str, FrameMeasure] | None = None,
        bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    ):
        super().__init__(methods, baselines, measures or {"mse": frame_squared_error}, bootstrap)

    def clip_values(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        pairs = {f"{e}_better/{m}/{n}": (means[f"{e}/{m}"], means[f"{e}/{n}"]) for e, m, n in self.compared}
        return means | {name: improved(*pair) for name, pair in pairs.items()}

    def summary(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        pairs = {f"{e}_ratio/{m}/{n}": (means[f"{e}/{m}"], means[f"{e}/{n}"]) for e, m, n in self.compared}
        return means | {name: error_ratio(*pair) for name, pair in pairs.items()}


@final
class ScoreTable(FrameTable):
    """Scores of decoded missing frames: the higher, the better.

    Figures of a group of frames, with ``q_i(m)`` the mean score of method m over clip i's frames, n a baseline:

        q/m          = mean_i q_i(m)
        q_gain/m/n   = mean_i (q_i(m) - q_i(n))

    where q is the measure's name: ``psnr``, ``ssim``, and such as ``vmaf``.

    Args:
        methods, baselines, bootstrap: see :class:`FrameTable`.
        measures: the scores; None for ``{"psnr": psnr, "ssim": ssim}``.
    """

    higher_is_better = True

    def __init__(
        self,
        methods: list[str],
        baselines: list[str],
        measures: Mapping[str, FrameMeasure] | None = None,
        bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    ):
        super().__init__(methods, baselines, measures or {"psnr": psnr, "ssim": ssim}, bootstrap)

    def clip_values(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        return means

    def summary(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        return means | {f"{q}_gain/{m}/{n}": means[f"{q}/{m}"] - means[f"{q}/{n}"] for q, m, n in self.compared}
