"""A loss that grows more slowly than the squared error for large errors (docs/method.md, Objectives)."""

from math import inf
from typing import final

from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, frame_mean, per_sample


@final
class Robust:
    """The general robust loss (Barron, A General and Adaptive Robust Loss Function, CVPR 2019, equation 1).

    It is scaled so that it equals the squared error for small errors. With ``q`` the squared error of a position,
    averaged over channels, ``V_s`` the level's interpolation error, ``d = 2 - alpha`` and ``r^2 = scale^2 V_s``,

        rho(q) = 2 r^2 d / alpha ((q / (r^2 d) + 1)^(alpha / 2) - 1)         alpha != 0
        rho(q) = 2 r^2 log(q / (2 r^2) + 1)                                  alpha = 0

    ``alpha = 1`` is the Charbonnier loss, ``alpha = 0`` the Cauchy loss. The squared error is smallest at the mean of
    all possible motions, which is a blend of them; a robust loss is smallest near the likely ones.

    Args:
        alpha: growth of the loss for large errors; the smaller alpha, the less large errors count.
        scale: error above which the loss grows more slowly than the squared error, in units of the interpolation's RMS
            error.

    Raises:
        BadValue: ``alpha`` is 2 or more, ``scale`` is not positive, or one of them is not finite.
    """

    def __init__(self, alpha: float = 1.0, scale: float = 0.3):
        if not -inf < alpha < 2:
            raise BadValue("alpha", alpha, "a finite number below 2 (2 is the squared error: objective/penalty=null)")
        if not 0 < scale < inf:
            raise BadValue("scale", scale, "a finite number > 0")
        self.alpha, self.scale = float(alpha), float(scale)

    def __call__(self, error: Float[Tensor, "b c t *space"], unit: Float[Tensor, " b"]) -> Float[Tensor, "b t"]:
        """The loss of every frame.

        Args:
            error: of the clean estimate.
            unit: ``V_s`` of each sample.
        """
        square = error.square().mean(1, keepdim=True)
        r2, d = self.scale**2 * per_sample(unit, error), 2 - self.alpha
        if self.alpha == 0:
            return frame_mean(2 * r2 * (square / (2 * r2)).log1p())
        power = self.alpha / 2 * (square / (r2 * d)).log1p()  # b^a - 1 = expm1(a log b): exact for small errors
        return frame_mean(2 * r2 * d / self.alpha * power.expm1())
