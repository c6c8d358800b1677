"""How many keyframes each level has."""

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

from interp_refiner.core import BadValue, at_least, choice

Law = Literal["geometric", "linear", "doubling"]


def keyframe_counts(num_frames: int, k_min: int, num_levels: int, law: Law = "geometric") -> list[int]:
    """``K_0 = T > K_1 > ... > K_S = K_min``, rounded half to even.

    - ``geometric``: ``K_s = T (K_min / T)^(s / S)``
    - ``linear``: ``K_s = T - (T - K_min) s / S``
    - ``doubling``: ``K_s = K_min 2^(S - s)``, as far as it stays below T

    If T is too small for S different counts, there are fewer levels, with a warning.

    Args:
        num_frames: T.
        k_min: ``K_min``, the keyframes of the sparsest level.
        num_levels: S.
        law: how the counts decrease from T to ``K_min``.

    Returns:
        The counts of levels 0..S.

    Raises:
        BadValue: ``T < 2``, ``K_min < 2``, ``K_min >= T`` (no frame would be missing), ``S < 1`` or an unknown law.
    """
    check_law(k_min, num_levels, law)
    _check_num_frames(num_frames)
    if k_min >= num_frames:
        raise BadValue("k_min", k_min, f"below {num_frames}, the frames of a clip: no frame would be missing")
    levels = range(1, num_levels + 1)
    if law == "geometric":
        wanted = [round(num_frames * (k_min / num_frames) ** (s / num_levels)) for s in levels]
    elif law == "linear":
        wanted = [round(num_frames - (num_frames - k_min) * s / num_levels) for s in levels]
    else:
        wanted = [k_min * 2 ** (num_levels - s) for s in levels]
    counts = [num_frames, *sorted({count for count in wanted if count < num_frames}, reverse=True)]
    if len(counts) <= num_levels:
        warnings.warn(
            f"{num_frames} frames allow {len(counts) - 1} {law} levels down to k_min={k_min}, "
            f"not num_levels={num_levels}: using counts {counts}",
            stacklevel=2,
        )
    return counts


def explicit_counts(num_frames: int, counts: Sequence[int]) -> list[int]:
    """``[T, K_1, ..., K_S]`` from the counts of levels 1..S; a leading T is accepted as level 0.

    Raises:
        BadValue: the counts do not decrease strictly, or are not all from 2 to ``T - 1``.
    """
    check_counts(counts)
    _check_num_frames(num_frames)
    below = list(counts[1:] if counts[0] == num_frames else counts)
    if not below or below[0] > num_frames:
        raise BadValue("counts", list(counts), f"numbers of keyframes below {num_frames}, the frames of a clip")
    return [num_frames, *below]


def check_law(k_min: int, num_levels: int, law: str) -> None:
    """Raises :class:`BadValue` for values that are wrong for clips of any length."""
    choice("law", law, get_args(Law))
    at_least(2, k_min=k_min)
    at_least(1, num_levels=num_levels)


def check_counts(counts: Sequence[int]) -> None:
    """Raises :class:`BadValue` for explicit counts that are wrong for clips of any length."""
    falling = all(denser > sparser for denser, sparser in pairwise(counts))
    if not counts or not falling or counts[-1] < 2:
        raise BadValue("counts", list(counts), "strictly decreasing numbers of keyframes, at least 2")


def _check_num_frames(num_frames: int) -> None:
    if num_frames < 2:
        allowed = "at least 2: these clips are pictures (prepare encode: cut.size or cut.buckets)"
        raise BadValue("num_frames", num_frames, allowed)
