"""Uses another hypothesis as ``zbar``, such as the best single law of motion."""

from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Neighbours
from interp_refiner.forward.interpolator.interpolator import Interpolation, Interpolator


class Leading(Interpolator):
    """Swaps ``zbar`` with the hypothesis number ``leader`` of another interpolator.

    Where the leader is undefined it equals the old ``zbar``, so the new ``zbar`` has a value everywhere. The old
    ``zbar`` takes the leader's place among the hypotheses, with ``present`` 1.

    Args:
        inner: has the hypotheses; it is not trained.
        leader: from 0, the old ``zbar``, to k - 1; negative numbers count from the last one.
        title: of the leader, for tables.

    Raises:
        BadValue: no such hypothesis.
    """

    segment_local: ClassVar[bool] = False  # laws of motion read keyframes of neighbouring gaps

    def __init__(self, inner: Interpolator, leader: int = -1, title: str = ""):
        super().__init__()
        k = inner.num_hypotheses
        if not -k <= leader < k:
            raise BadValue("leader", leader, f"a hypothesis from {-k} to {k - 1} of the interpolator's {k}")
        self.inner, self.leader, self.num_hypotheses, self.title = inner, leader % k, k, title

    def fill(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        filled = self.inner(values, near.known)
        if filled.hypotheses is None or filled.present is None:
            return filled
        order = torch.arange(self.num_hypotheses, device=values.device)
        order[0], order[self.leader] = self.leader, 0
        hypotheses, present = (kind.index_select(1, order) for kind in (filled.hypotheses, filled.present))
        return replace(filled, latents=hypotheses[:, 0], hypotheses=hypotheses, present=present)
