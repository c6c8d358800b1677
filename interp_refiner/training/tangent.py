"""Targets that make a student constant along its teacher's ODE (docs/method.md, One step)."""

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from interp_refiner.core import BadValue, Corrupted, frame_mean, masked_mean, per_frame, per_sample, positive, precise
from interp_refiner.model.attention import AUTO, DenseLayer, SparseLinearLayer
from interp_refiner.model.backbone import Backbone
from interp_refiner.model.sampler import CleanEstimate

UNIT = 0.1  # added to the relative norm that a tangent is divided by


def direction(teacher: CleanEstimate, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
    """``dx/dtau = (x - z0_T) / tau`` of the teacher's ODE, 0 on given frames, in float32."""
    x = precise(corrupted.x)
    dx = (x - teacher(corrupted)) / per_sample(corrupted.tau, x)
    return dx * per_frame(~corrupted.given, x)


def along(teacher: CleanEstimate, corrupted: Corrupted, end: Float[Tensor, " b"], substeps: int = 1) -> Corrupted:
    """Follows the teacher's ODE to the bridge time ``end`` in equal Euler steps; at ``end = 0`` a clean clip.

    From ``tau = 1`` to 0 these are the steps of ``sampler=bridge sampler.order=1``.
    """
    start, x = corrupted.tau, precise(corrupted.x)
    for step in range(1, substeps + 1):
        after = torch.lerp(start, end, step / substeps)
        x = x + per_sample(after - corrupted.tau, x) * direction(teacher, corrupted)
        corrupted = corrupted.at(after, x)
    return corrupted


def ramp(step: int | None, steps: int) -> float:
    """A linear ramp from 0 at the first optimizer step to 1 after ``steps``; 1 if ``step`` is None."""
    return 1.0 if step is None or step >= steps else step / steps


class Tangent(ABC):
    """The target of ``f(x, tau)`` that makes ``f`` constant along the teacher's ODE.

    Attributes:
        of_teacher, of_student: additional forward passes per step.
    """

    of_teacher: int = 1
    of_student: int = 1

    def check(self, backbone: Backbone) -> None:  # noqa: B027 - most tangents take any network
        """Raises :class:`BadValue` for a network that cannot be differentiated in this way."""

    @abstractmethod
    def target(
        self,
        student: CleanEstimate,
        teacher: CleanEstimate,
        corrupted: Corrupted,
        estimate: Float[Tensor, "b c t *space"],
    ) -> Float[Tensor, "b c t *space"]:
        """The target of ``estimate``, which is ``f(x, tau)``; it has no gradient.

        Args:
            student: ``f``, with the current weights, not their average.
            teacher: ``z0_T``.
            corrupted: the state, at ``tau > 0``; ``clip.step`` is the optimizer step.
            estimate: ``f(x, tau)``.
        """


@final
class Discrete(Tangent):
    """The target of ``f(x_tau, tau)`` is ``f(x_{tau - d}, tau - d)``, by Euler steps of the teacher from ``x_tau``.

    At ``tau <= d`` the target is the end of the teacher's ODE. ``first = last = 1`` with N substeps is a regression on
    the ends of the teacher's trajectories of N steps. The estimate at ``tau`` learns from the one at
    ``tau - d``, so a small d needs a long run. ``d / substeps`` is the step size of the trajectory.

    Args:
        first: initial d.
        last: d from step ``steps`` on; d decreases geometrically in between.
        steps: number of optimizer steps.
        substeps: number of the teacher's Euler steps within d.

    Raises:
        BadValue: a d outside (0, 1], ``last > first``, ``steps`` below 0, or fewer than one substep.
    """

    def __init__(self, first: float = 0.5, last: float = 0.25, steps: int = 100, substeps: int = 4):
        if not 0 < last <= 1:
            raise BadValue("last", last, "a step of the bridge time in (0, 1]")
        if not last <= first <= 1:
            raise BadValue("first", first, f"a step of the bridge time from last={last:g} to 1")
        if steps < 0:
            raise BadValue("steps", steps, "a number of optimizer steps >= 0")
        if substeps < 1:
            raise BadValue("substeps", substeps, "a number of Euler steps >= 1")
        self.first, self.last, self.steps, self.substeps = first, last, steps, substeps
        self.of_teacher = substeps

    def size(self, step: int | None) -> float:
        """d at an optimizer step; the last one if ``step`` is None."""
        return self.first * (self.last / self.first) ** ramp(step, self.steps)

    @torch.no_grad()
    def target(
        self,
        student: CleanEstimate,
        teacher: CleanEstimate,
        corrupted: Corrupted,
        estimate: Float[Tensor, "b c t *space"],
    ) -> Float[Tensor, "b c t *space"]:
        size = self.size(corrupted.clip.step)
        reached = along(teacher, corrupted, (corrupted.tau - size).clamp(min=0), self.substeps)
        return student(reached) if size < 1 else reached.x


class Continuous(Tangent):
    """The target is ``f - w D``, with ``D`` the derivative of ``f`` along the teacher's ODE (Lu and Song 2024, sec. 2),

        D = d/dtau f(x(tau), tau)          dx/dtau = (x - z0_T) / tau

    Args:
        weight: w.
        normalised: whether D is normalised (:func:`normalised`), so that its RMS is smaller than that of the noise.
        warmup_steps: number of optimizer steps in which w rises from 0.

    Raises:
        BadValue: a weight that is not positive, or a number of steps below 0.
    """

    of_student: int = 2

    def __init__(self, weight: float = 0.5, normalised: bool = True, warmup_steps: int = 1000):
        positive("weight", weight)
        if warmup_steps < 0:
            raise BadValue("warmup_steps", warmup_steps, "a number of optimizer steps >= 0")
        self.weight, self.normalised, self.warmup_steps = weight, normalised, warmup_steps

    def check(self, backbone: Backbone) -> None:
        """Refuses sparse attention and kernels without float32, in which :meth:`target` computes ``D``.

        The choice of blocks of sparse attention is discontinuous, so ``f`` has no derivative.
        """
        if any(isinstance(layer, SparseLinearLayer) for layer in backbone.modules()):
            allowed = "discrete with attention=sparse_linear, whose choice of blocks jumps (or attention=dense)"
            raise BadValue("tangent", type(self).__name__.lower(), allowed)
        for layer in backbone.modules():
            if isinstance(layer, DenseLayer) and layer.backend not in (AUTO, "sdpa"):
                chosen = f"{layer.argument}={layer.backend}"
                allowed = f"discrete with {chosen}, a kernel without float32 (or attention.{layer.argument}=sdpa)"
                raise BadValue("tangent", type(self).__name__.lower(), allowed)

    @abstractmethod
    def derivative(
        self, student: CleanEstimate, corrupted: Corrupted, dx: Float[Tensor, "b c t *space"]
    ) -> Float[Tensor, "b c t *space"]:
        """``D``, the derivative of ``f(x, tau)`` in the direction ``(dx, 1)``."""

    @torch.no_grad()
    def target(
        self,
        student: CleanEstimate,
        teacher: CleanEstimate,
        corrupted: Corrupted,
        estimate: Float[Tensor, "b c t *space"],
    ) -> Float[Tensor, "b c t *space"]:
        if corrupted.x.dtype.itemsize < 4:
            allowed = f"discrete with {corrupted.x.dtype} clips, which round away differences of f (or bf16-mixed)"
            raise BadValue("training.tangent", type(self).__name__.lower(), allowed)
        warm = ramp(corrupted.clip.step, self.warmup_steps)
        dx = direction(teacher, corrupted)
        with torch.autocast(corrupted.x.device.type, enabled=False):
            tangent = self.derivative(student, corrupted, dx)
        if self.normalised:
            tangent = normalised(tangent, corrupted)
        return estimate - self.weight * warm * tangent


def normalised(tangent: Float[Tensor, "b c t *space"], corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
    """``D / (|D| / |s| + .1)``, with s the noise amplitude and ``|.|`` the RMS over the frames that are not given."""
    free = ~corrupted.given
    size, noise = (masked_mean(frame_mean(v.square()), free).sqrt() for v in (tangent, precise(corrupted.amplitude)))
    return tangent / per_sample(size / noise.clamp(min=1e-6) + UNIT, tangent)


@final
class Difference(Continuous):
    """The derivative by a central difference, ``(f(x + h dx, tau + h) - f(x - h dx, tau - h)) / 2h``.

    At ``tau = 1`` one point is beyond 1, which is harmless because ``f`` is smooth there. In float32 the best h is
    about .001.

    Args:
        weight, normalised, warmup_steps: see :class:`Continuous`.
        size: h; at most ``tau / 2`` is used.

    Raises:
        BadValue: an h outside (0, .1].
    """

    def __init__(self, weight: float = 0.5, normalised: bool = True, warmup_steps: int = 1000, size: float = 1e-3):
        super().__init__(weight, normalised, warmup_steps)
        if not 0 < size <= 0.1:
            raise BadValue("size", size, "a step of the bridge time in (0, 0.1]")
        self.size = size

    def derivative(
        self, student: CleanEstimate, corrupted: Corrupted, dx: Float[Tensor, "b c t *space"]
    ) -> Float[Tensor, "b c t *space"]:
        h = (0.5 * corrupted.tau).clamp(max=self.size)
        step = per_sample(h, dx)
        after = student(corrupted.at(corrupted.tau + h, corrupted.x + step * dx))
        before = student(corrupted.at(corrupted.tau - h, corrupted.x - step * dx))
        return (after - before) / (2 * step)


@final
class Forward(Continuous):
    """The exact derivative by forward-mode differentiation; the reference for the others. Dense attention only.

    Attention uses torch's unfused kernel, because fused kernels do not support forward-mode differentiation.
    """

    def check(self, backbone: Backbone) -> None:
        super().check(backbone)
        if backbone.compiled:
            raise BadValue("tangent", "forward", "discrete | difference with backbone.blocks.compile=true")

    def derivative(
        self, student: CleanEstimate, corrupted: Corrupted, dx: Float[Tensor, "b c t *space"]
    ) -> Float[Tensor, "b c t *space"]:
        def f(x: Tensor, tau: Tensor) -> Tensor:
            return student(corrupted.at(tau, x))

        with sdpa_kernel(SDPBackend.MATH):
            point, tangent = (corrupted.x, corrupted.tau), (dx.to(corrupted.x.dtype), torch.ones_like(corrupted.tau))
            return torch.func.jvp(f, point, tangent)[1]
