"""The bridge times of the steps, and the time variable in which clean estimates are extrapolated."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, final

from interp_refiner.core import BadValue


class Spacing(ABC):
    """Bridge times from 1 to 0.

    Let ``sd m`` be the standard deviation of the residual ``z0 - zbar``, and ``sigma m`` that of the noise. Then a
    state is at an angle ``phi`` on an arc, pi / 2 at the start and 0 at the clean clip:

        tan(phi) = tau sigma / ((1 - tau) sd)

    The profile ``m`` cancels, so all frames have the same bridge times.

    Attributes:
        known_within: R: ``sd`` is known up to this factor.
    """

    known_within: ClassVar[float]

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value:g}" for name, value in vars(self).items())
        return type(self).__name__.lower() + (f"({settings})" if settings else "")

    @abstractmethod
    def __call__(self, steps: int, sigma: float) -> list[float]:
        """``steps + 1`` bridge times, decreasing from 1 to 0."""

    def relative_deviation(self, sigma: float) -> float:
        """``sd / sigma``; 1 if the residual is unknown, because sigma is usually chosen near it."""
        return 1.0

    def clock(self, tau: float, sigma: float) -> float:
        """A time variable in which clean estimates change at an even rate, from 0 at ``tau = 1`` to ``2 log R`` at 0:

            asinh(R cot(phi)) - asinh(cot(phi) / R)

        Away from the ends it is close to the log signal-to-noise ratio, in which Lu et al. (DPM-Solver++, 2022)
        extrapolate. That ratio is infinite at both ends of a bridge; this variable is finite there, as estimates are.
        The estimate of a Gaussian residual changes as ``cos(phi)``. This variable is the integral of ``cos(phi)`` over
        all ``log sd`` within ``log R`` of the assumed one.
        """
        if tau == 0:
            return 2 * math.log(self.known_within)
        cotangent = (1 - tau) / tau * self.relative_deviation(sigma)
        return math.asinh(self.known_within * cotangent) - math.asinh(cotangent / self.known_within)


@final
class Even(Spacing):
    """Steps of equal size in ``tau``. The default, because it does not depend on the residual."""

    known_within = 8.0

    def __call__(self, steps: int, sigma: float) -> list[float]:
        return [1 - step / steps for step in range(steps + 1)]


@final
class Arc(Spacing):
    """Steps of equal size in ``phi``: for a residual of known deviation, the result is the same at every sigma.

    Args:
        deviation: ``sd`` of the residual where ``m = 1``, in latent standard deviations; None uses sigma.

    Raises:
        BadValue: a deviation that is not a finite number > 0.
    """

    known_within = 4.0

    def __init__(self, deviation: float | None = None):
        if deviation is not None and not 0 < deviation < math.inf:
            raise BadValue("deviation", deviation, "a finite number > 0, or null for the amplitude of the noise")
        self.deviation = deviation

    def relative_deviation(self, sigma: float) -> float:
        return 1.0 if self.deviation is None or sigma == 0 else self.deviation / sigma

    def __call__(self, steps: int, sigma: float) -> list[float]:
        angles = [math.pi / 2 * (1 - step / steps) for step in range(1, steps)]
        tangents = [self.relative_deviation(sigma) * math.tan(angle) for angle in angles]
        return [1.0, *(tangent / (1 + tangent) for tangent in tangents), 0.0]
