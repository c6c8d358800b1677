"""Several interpolations of a gap, each by another law of motion."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.profiler import record_function

from interp_refiner.core import BadValue, Neighbours, take_frames
from interp_refiner.forward.interpolator.interpolator import PART, Interpolation, Interpolator
from interp_refiner.forward.interpolator.laws_of_motion import Gap, LawOfMotion
from interp_refiner.forward.interpolator.motion_fields import Fields
from interp_refiner.forward.interpolator.segments import rows_inside, table_of_keyframes


class MotionHypotheses(Interpolator):
    """An interpolator plus hypotheses: other interpolations of the same keyframes.

    ``zbar`` is the base's. The base's own hypotheses come first, so a base with other motion fields can be nested;
    different fields have errors in different places. Every law of motion adds a hypothesis

        h = zbar + present (guess - zbar)

    It computes guess and ``present`` from the keyframes around the gap and from the displacements between neighbouring
    keyframes, which are computed once for all laws. In a frame in which nothing moves, h is ``zbar``.

    Args:
        base: makes ``zbar``.
        fields: computes the displacements.
        laws: laws of motion, one hypothesis each.

    Raises:
        BadValue: no law; on use, latents that are not video.
    """

    segment_local: ClassVar[bool]  # as base: only the added hypotheses read keyframes of other gaps

    def __init__(self, base: Interpolator, fields: Fields, laws: Sequence[LawOfMotion]):
        super().__init__()
        if not laws:
            raise BadValue("laws", list(laws), "at least one law of motion")
        self.base, self.fields, self.laws = base, fields, list(laws)
        self.segment_local = base.segment_local  # type: ignore[misc]
        self.num_hypotheses = base.num_hypotheses + len(self.laws)

    def fill(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        if values.ndim != 5:
            needed = "video [b, c, t, h, w]: motion_hypotheses matches positions in space"
            raise BadValue("latents", tuple(values.shape), needed)
        filled = self.base(values, near.known)
        with record_function(f"{PART}fields"):
            gap = self.gap(values, near)
        b, _, t = values.shape[:3]
        zbar, row = filled.latents.transpose(1, 2).flatten(0, 1), rows_inside(near)
        of_gap, nothing = zbar.index_select(0, row), zbar.new_zeros(zbar[:, :1].shape)
        hypotheses, present = [], []
        with record_function(f"{PART}laws"):
            for law in self.laws:
                guess = law(gap)
                hypotheses.append(zbar.index_copy(0, row, torch.lerp(of_gap, guess.frames, guess.present)))
                present.append(nothing.index_copy(0, row, guess.present))
        of_base, base_present = filled.hypotheses, filled.present
        if of_base is None or base_present is None:
            of_base, base_present = filled.latents.unsqueeze(1), torch.ones_like(filled.latents[:, :1])
        added = torch.stack(hypotheses, 1).unflatten(0, (b, t)).permute(0, 2, 3, 1, 4, 5)
        added_present = torch.stack(present, 1).squeeze(2).unflatten(0, (b, t)).transpose(1, 2)
        all_present = torch.cat([base_present, added_present], 1)
        return replace(filled, hypotheses=torch.cat([of_base, added], 1), present=all_present)

    def gap(self, values: Float[Tensor, "b c t h w"], near: Neighbours) -> Gap:
        """The input of the laws for all missing frames. Every pair of neighbouring keyframes is matched once."""
        table, row = table_of_keyframes(near.known), rows_inside(near)
        keyframes = take_frames(values, table.frame).transpose(1, 2)
        earlier, later = keyframes[:, :-1].flatten(0, 1), keyframes[:, 1:].flatten(0, 1)
        frames = table.frame.diff(dim=1).flatten().clamp(min=1).to(values.dtype).view(-1, 1, 1, 1)
        to_later, to_earlier = self.fields(earlier, later, frames)
        here, before, after = (table.pair(offset).index_select(0, row) for offset in (0, -1, 1))
        around = to_later.rows(here), to_earlier.rows(here), to_earlier.rows(before), to_later.rows(after)
        moves = torch.stack([(motion.flow != 0).flatten(1).any(1) for motion in around]).any(0)

        def of_frame(numbers: Tensor) -> Tensor:
            return numbers.flatten().index_select(0, row).view(-1, 1, 1, 1)

        return Gap(
            left=earlier.index_select(0, here),
            right=later.index_select(0, here),
            since=of_frame(near.distance_left.clamp(min=1)).to(values.dtype),
            until=of_frame(near.distance_right.clamp(min=1)).to(values.dtype),
            before=frames.index_select(0, before),
            after=frames.index_select(0, after),
            has_before=of_frame(table.before > 0) & moves.view(-1, 1, 1, 1),
            has_after=of_frame(table.before + 2 < table.count) & moves.view(-1, 1, 1, 1),
            to_right=around[0],
            to_left=around[1],
            to_before=around[2],
            to_after=around[3],
        )
