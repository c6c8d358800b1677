"""Errors on missing frames by (level, gap, offset)."""

from collections.abc import Mapping

from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp_refiner.core import neighbours
from interp_refiner.metric.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap
from interp_refiner.metric.clip_table import ClipTable, check_methods, comparisons
from interp_refiner.metric.image_quality import psnr, ssim
from interp_refiner.metric.missing_frame import error_ratio, frame_squared_error


class FrameTable(ClipTable):
    """Values of missing frames, by level, gap and offset.

    The gap of a missing frame is the distance between its two keyframes, its offset the distance from the left one
    (1..gap-1). Outside the outermost keyframes there is no gap: it counts as 0, and the offset is the distance from the
    only keyframe.
    """

    key_names = ("level", "gap", "offset")
    groupings = (("level",), ("gap",), ("gap", "offset"), ("level", "gap", "offset"))

    def add_frames(
        self,
        values: Mapping[str, Float[Tensor, "b n"]],
        known: Bool[Tensor, "b t"],
        level: Int[Tensor, " b"],
        sample: Int[Tensor, " b"],
        latent_frame: Int[Tensor, " n"] | None = None,
    ) -> None:
        """Adds the values of n frames of each clip, of which the missing ones count.

        Args:
            values: one number per frame.
            known: the keyframes among the t latent frames.
            level: of each clip.
            sample: index of the clip in its dataset.
            latent_frame: the latent frame that each of the n frames belongs to; None where they are the latent frames.
        """
        near = neighbours(known)
        keys = [level.unsqueeze(1).expand_as(known), near.gap, near.distance_left]
        columns = [sample.unsqueeze(1).expand_as(known), ~known, *keys]
        if latent_frame is not None:
            columns = [column[:, latent_frame] for column in columns]
        sample_of, missing, *keys = (column.flatten() for column in columns)
        flat = {name: value.flatten() for name, value in values.items()}
        self.add_rows(sample_of, missing, dict(zip(self.key_names, keys, strict=True)), flat)


class ErrorTable(FrameTable):
    """Squared error of several methods on missing frames, each method compared with the baselines.

    Figures of a group of frames, with ``e_i(m)`` the mean error of method m over clip i's frames, n a baseline:

        mse/m        = mean_i e_i(m)
        ratio/m/n    = mean_i e_i(m) / mean_i e_i(n)        (1 where both are 0)
        improved/m/n = share of clips with e_i(m) < e_i(n)

    Args:
        methods: the estimates that every update brings, for example ``["refined", "interpolation", "linear"]``.
        baselines: those among them that the others are compared with.
        bootstrap: of the intervals.
    """

    higher_is_better = False

    def __init__(self, methods: list[str], baselines: list[str], bootstrap: Bootstrap = DEFAULT_BOOTSTRAP):
        super().__init__(methods, bootstrap)
        self.methods, self.pairs = list(methods), comparisons(methods, baselines)

    def update(
        self,
        estimates: dict[str, Float[Tensor, "b c t *space"]],
        clean: Float[Tensor, "b c t *space"],
        known: Bool[Tensor, "b t"],
        level: Int[Tensor, " b"],
        sample: Int[Tensor, " b"],
    ) -> None:
        """Adds one batch, without waiting for the device.

        Raises:
            BadValue: other estimates than ``methods``.
        """
        check_methods(estimates, self.methods)
        errors = {method: frame_squared_error(estimate, clean) for method, estimate in estimates.items()}
        self.add_frames(errors, known, level, sample)

    def clip_values(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        improved = {f"improved/{m}/{n}": means[m] < means[n] for m, n in self.pairs}
        return {f"mse/{m}": error for m, error in means.items()} | improved

    def summary(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        ratios = {f"ratio/{m}/{n}": error_ratio(means[f"mse/{m}"], means[f"mse/{n}"]) for m, n in self.pairs}
        return means | ratios


class PixelTable(FrameTable):
    """PSNR and SSIM of decoded missing frames, each method compared with the baselines.

    Figures of a group of frames for both scores q, with ``q_i(m)`` the mean over clip i's frames, n a baseline:

        q/m          = mean_i q_i(m)
        q_gain/m/n   = mean_i (q_i(m) - q_i(n))

    Args:
        methods: the videos that every update brings.
        baselines: those among them that the others are compared with.
        data_range: of the pixels, 1 for RGB in 0..1.
        bootstrap: of the intervals.
    """

    higher_is_better = True

    def __init__(
        self,
        methods: list[str],
        baselines: list[str],
        data_range: float = 1.0,
        bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    ):
        names = [f"{score}/{m}" for m in methods for score in ("psnr", "ssim")]
        super().__init__(names, bootstrap)
        self.methods, self.pairs = list(methods), comparisons(methods, baselines)
        self.data_range = data_range

    def update(
        self,
        videos: dict[str, Float[Tensor, "b c n h w"]],
        clean: Float[Tensor, "b c n h w"],
        known: Bool[Tensor, "b t"],
        level: Int[Tensor, " b"],
        sample: Int[Tensor, " b"],
        latent_frame: Int[Tensor, " n"] | None = None,
    ) -> None:
        """Adds one batch, without waiting for the device; for ``latent_frame`` see :meth:`FrameTable.add_frames`.

        Raises:
            BadValue: other videos than ``methods``, or frames smaller than SSIM's window of 11x11.
        """
        check_methods(videos, self.methods)
        scores = {"psnr": psnr, "ssim": ssim}
        values = {
            f"{q}/{m}": score(v, clean, self.data_range) for m, v in videos.items() for q, score in scores.items()
        }
        self.add_frames(values, known, level, sample, latent_frame)

    def clip_values(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        return means

    def summary(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        compared = [(q, m, n) for q in ("psnr", "ssim") for m, n in self.pairs]
        return means | {f"{q}_gain/{m}/{n}": means[f"{q}/{m}"] - means[f"{q}/{n}"] for q, m, n in compared}
