"""The velocity of a pretrained flow-matching backbone."""

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted, per_frame
from interp_refiner.model.objective.objective import Objective


class Velocity(Objective):
    """Output ``v`` with ``z0_hat = x_u - u v`` at every frame's own flow time (Lipman et al. 2023).

    At ``u = 0`` the estimate does not depend on ``v``, so every free frame needs noise.
    """

    def check(self, sigma: float, keyframes_replaced: bool, keyframe_fraction: float) -> None:
        """Refuses a corruption that leaves free frames without noise.

        Raises:
            BadValue: ``sigma`` is 0, or keyframes may be replaced and ``keyframe_fraction`` is 0.
        """
        if sigma <= 0:
            raise BadValue(
                "corruption.sigma", sigma, "a number > 0 with objective=velocity (z0_hat = x_u - u v needs u > 0)"
            )
        if keyframes_replaced and keyframe_fraction <= 0:
            allowed = "a number > 0 with objective=velocity and scheduled sampling (replaced keyframes need u > 0)"
            raise BadValue("corruption.keyframe_fraction", keyframe_fraction, allowed)

    def clean_estimate(
        self, output: Float[Tensor, "b c t *space"], corrupted: Corrupted
    ) -> Float[Tensor, "b c t *space"]:
        u = per_frame(corrupted.flow_time, output).to(output.dtype)
        return corrupted.flow_state - u * output

    def target(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        u = per_frame(corrupted.flow_time, corrupted.clean)
        return torch.where(u > 0, (corrupted.flow_state - corrupted.clean) / u.clamp(min=1e-6), 0.0)
