"""The bridge in units of the interpolation's error, so that the network's input and output have about unit variance."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, ClipSpec, Corrupted, NumLevels, per_frame, per_sample, positive, precise
from interp_refiner.model.objective.mixture import Gate, Mixture
from interp_refiner.model.objective.robust import Robust

FASTER = 10.0  # log-variance = 10 x parameter, because Adam's steps of about lr would be too small for it
TINY = 1e-6  # added to variances, so that their square roots have finite gradients on given frames


@dataclass(frozen=True)
class OnArc:
    """A bridge state as a point on the arc from residual to noise, at every latent position; see :class:`ResidualArc`.

    Attributes:
        deviation: ``sd``, the residual's standard deviation; about 0 on given frames.
        angle: ``phi``, from 0 (clean) to pi / 2 (noise).
        point: ``p = (x - zbar) / rho``, of about unit variance.

    The first two have spatial axes of size 1 if the interpolator's confidence is one number per frame.
    """

    deviation: Float[Tensor, "b c t *positions"]
    angle: Float[Tensor, "b c t *positions"]
    point: Float[Tensor, "b c t *space"]


class ResidualArc(nn.Module):
    """The bridge as an arc, in units of the residual's standard deviation (docs/method.md, Objectives).

    With the residual ``z0 - zbar = sd r``, where ``r`` has about unit variance, and the noise amplitude
    ``s = sigma m g``, the bridge state is a point on an arc (Lu and Song, Simplifying, Stabilizing and Scaling
    Continuous-Time Consistency Models, 2024, section 3), with a separate angle at every position:

        x - zbar = (1 - tau) sd r + tau s eps = rho (cos(phi) r + sin(phi) eps)
        rho^2    = (1 - tau)^2 sd^2 + (tau s)^2
        phi      = atan2(tau s, (1 - tau) sd)
        sd^2     = w_c m^2 (1 - kappa)         or  w_c m^2 g^2  if the noise has a local scale g

    ``kappa`` is the interpolator's confidence. The variance ``w_c`` of every channel is learned with the network.

    Args:
        latent_channels: c.
        variance: initial value of ``w_c``.

    Raises:
        BadValue: a variance that is not positive.
    """

    def __init__(self, latent_channels: int, variance: float):
        super().__init__()
        self.variance = positive("variance", variance)
        self.log_variance = nn.Parameter(torch.zeros(latent_channels))

    def deviation(self, corrupted: Corrupted) -> Float[Tensor, "b c t *positions"]:
        """``sd``; about 0 on given frames. Spatial axes have size 1 where those of the confidence have."""
        zbar = corrupted.interpolation
        if corrupted.local_scale is None:
            relative = (1 - precise(corrupted.confidence)).unsqueeze(1)
        else:
            relative = precise(corrupted.local_scale).square()
        w = self.variance * (FASTER * precise(self.log_variance)).exp()
        m2 = per_frame(corrupted.noise_profile, zbar).square()
        return (w.view(1, -1, *[1] * (zbar.ndim - 2)) * (m2 * relative) + TINY).sqrt()

    def forward(self, corrupted: Corrupted) -> OnArc:
        zbar, sd = corrupted.interpolation, self.deviation(corrupted)
        signal = (1 - per_sample(corrupted.tau, zbar)) * sd
        noise = per_sample(corrupted.tau, zbar) * precise(corrupted.amplitude)
        rho = (signal.square() + noise.square() + TINY**2).sqrt()
        angle = torch.atan2(noise + (noise == 0), signal)  # pi / 2 on given frames, where both are 0
        return OnArc(sd, angle, precise(corrupted.x - zbar) / rho)


class Preconditioned(Mixture):
    """Output ``v``, the velocity along the arc of :class:`ResidualArc`, with ``p = (x - zbar) / rho``,

        z0_hat = zbar + sd (cos(phi) p - sin(phi) v)          target of v: cos(phi) eps - sin(phi) r

    This is preconditioning (Karras et al. 2022, table 1): at ``tau = 1`` the network predicts the whole residual, near
    ``tau = 0`` almost nothing. Where the interpolator is confident, ``sd`` is small, and the formula removes the noise
    without the network. An output of zero at ``tau = 1`` gives the interpolation.

    The gated sum ``sum_k w_k h_k - zbar`` is the prior mean of the residual. For a Gaussian prior with that mean and
    variance ``sd^2``, the posterior mean given ``x`` contains it ``sin(phi)^2`` times:

        z0_hat = ... + sin(phi)^2 (sum_k w_k h_k - zbar)

    Args:
        spec: of the clips.
        num_levels: S, the sparsest level.
        temporal_weight: weight of the frame-to-frame differences.
        variance: initial value of ``w_c``: every channel's residual variance relative to ``m^2 (1 - kappa)``.
        gate: see :class:`Mixture`.
        penalty: see :class:`Objective`.

    Raises:
        BadValue: a variance that is not positive.
    """

    def __init__(
        self,
        spec: ClipSpec,
        num_levels: NumLevels,
        temporal_weight: float = 1.0,
        variance: float = 10.0,
        gate: Gate | None = None,
        penalty: Robust | None = None,
    ):
        super().__init__(spec, num_levels, temporal_weight, gate, penalty)
        self.arc = ResidualArc(spec.channels, variance)

    def check(self, sigma: float, keyframes_replaced: bool, keyframe_fraction: float) -> None:
        """Refuses a corruption that leaves free frames without noise: their residual would have no scale.

        Raises:
            BadValue: ``sigma`` is 0, or keyframes may be replaced and ``keyframe_fraction`` is 0.
        """
        check_noised("preconditioned", sigma, keyframes_replaced, keyframe_fraction)

    def clean_estimate(
        self, output: Float[Tensor, "b o t *space"], corrupted: Corrupted
    ) -> Float[Tensor, "b c t *space"]:
        velocity, chosen = self.chosen(output, corrupted)
        on = self.arc(corrupted)
        cos, sin = on.angle.cos(), on.angle.sin()
        return corrupted.interpolation + on.deviation * (cos * on.point - sin * velocity) + sin.square() * chosen

    def target(self, corrupted: Corrupted) -> Float[Tensor, "b o t *space"]:
        on = self.arc(corrupted)
        residual = (corrupted.clean - corrupted.interpolation) / on.deviation
        return self.undecided((on.angle.cos() * on.point - residual) / on.angle.sin().clamp(min=TINY), corrupted)


def check_noised(name: str, sigma: float, keyframes_replaced: bool, keyframe_fraction: float) -> None:
    """Raises :class:`BadValue` for a corruption that leaves free frames without noise.

    The objective ``name`` scales the correction by the noise profile, so it could not correct them.
    """
    if sigma <= 0:
        raise BadValue("corruption.sigma", sigma, f"a number > 0 with objective={name} (or objective=correction)")
    if keyframes_replaced and keyframe_fraction <= 0:
        allowed = f"a number > 0 with objective={name} and scheduled sampling: it scales the correction of keyframes"
        raise BadValue("corruption.keyframe_fraction", keyframe_fraction, allowed)
