"""The squared error of missing frames, which the objective minimises."""

from collections.abc import Mapping
from typing import final

from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import Measure
from interp_refiner.evaluation.measures.clip_table import FrameMetric
from interp_refiner.evaluation.measures.metric import Role
from interp_refiner.training.missing_frame import frame_squared_error


@final
class SquaredError(FrameMetric):
    """Mean squared error in latents of every method; estimates from shuffled keyframes must have a larger error."""

    measures = (Measure("mse", "MSE", digits=4, domain="latents", compared="ratio", lead=True),)

    def judged(self, methods: Mapping[str, Role]) -> list[str]:
        return list(methods)

    def forward(
        self, estimate: Float[Tensor, "b c t *space"], clean: Float[Tensor, "b c t *space"]
    ) -> Float[Tensor, "b t"]:
        return frame_squared_error(estimate, clean)
