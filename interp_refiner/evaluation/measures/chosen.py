"""Metrics that are measured where asked for only: slow ones, and those of networks from elsewhere.

Every function makes one table from the methods, their baselines and the bootstrap of an evaluation; its other arguments
are those of its config, ``conf/metric/<name>.yaml``.
"""

from interp_refiner.evaluation.measures.bootstrap import Bootstrap
from interp_refiner.evaluation.measures.error_table import ErrorTable, ScoreTable
from interp_refiner.evaluation.measures.frechet_by_level import FrechetByLevel
from interp_refiner.evaluation.measures.pretrained import LPIPS, I3DFeatures, InceptionFeatures
from interp_refiner.evaluation.measures.st_lpips import STLPIPS
from interp_refiner.evaluation.measures.vmaf import vmaf, vmaf_ffmpeg


def st_lpips_table(
    methods: list[str], baselines: list[str], bootstrap: Bootstrap, frames_at_once: int = 32
) -> ErrorTable:
    """ST-LPIPS of missing frames; raises ``MissingExtra``, see :class:`STLPIPS`."""
    return ErrorTable(methods, baselines, {"st_lpips": STLPIPS(frames_at_once)}, bootstrap)


def vmaf_table(methods: list[str], baselines: list[str], bootstrap: Bootstrap) -> ScoreTable:
    """VMAF of missing frames, see :func:`vmaf`; raises what :func:`vmaf_ffmpeg` raises."""
    vmaf_ffmpeg()
    return ScoreTable(methods, baselines, {"vmaf": vmaf}, bootstrap)


def lpips_table(
    methods: list[str], baselines: list[str], bootstrap: Bootstrap, weights: str | None = None
) -> ErrorTable:
    """LPIPS of missing frames; raises :class:`BadValue` without the file that :class:`LPIPS` names."""
    return ErrorTable(methods, baselines, {"lpips": LPIPS(weights)}, bootstrap)


def fid_table(
    methods: list[str], baselines: list[str], bootstrap: Bootstrap, weights: str | None = None
) -> FrechetByLevel:
    """FID of all frames; raises :class:`BadValue` without the file that :class:`InceptionFeatures` names.

    Its intervals are the jackknife's; ``2 (methods + 1) 2048^2`` numbers are kept for every level.
    """
    return FrechetByLevel(methods, baselines, InceptionFeatures(weights), "fid", standardise=False, num_folds=2)


def fvd_table(
    methods: list[str], baselines: list[str], bootstrap: Bootstrap, weights: str | None = None
) -> FrechetByLevel:
    """FVD of clips of 10 frames or more; raises :class:`BadValue` without the file that :class:`I3DFeatures` names."""
    return FrechetByLevel(methods, baselines, I3DFeatures(weights), "fvd", standardise=False, num_folds=2)
