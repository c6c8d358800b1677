"""The objective of a distilled student: the end of a teacher's ODE in one evaluation (docs/method.md, One step)."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, ClipSpec, Corrupted, NumLevels, non_negative, per_sample, positive
from interp_refiner.model.objective.mixture import Gate
from interp_refiner.model.objective.preconditioned import FASTER, TINY, OnArc, Preconditioned


@final
class Matching:
    """Settings of distribution matching (Yin et al., One-step Diffusion with Distribution Matching Distillation, 2023).

    A *fake* network learns a bridge to the student's clips, with the bridge's usual loss. The difference between its
    clean estimate and the teacher's moves the student's clips towards the teacher's distribution.

    Args:
        weight: weight of this loss; the consistency loss has its own.
        student_every: optimizer steps of the fake network per step of the student.

    Raises:
        BadValue: a weight that is not positive, or fewer than one step.
    """

    def __init__(self, weight: float = 1.0, student_every: int = 5):
        positive("weight", weight)
        if student_every < 1:
            raise BadValue("student_every", student_every, "a number of optimizer steps >= 1")
        self.weight, self.student_every = weight, student_every


@final
class Consistency(Preconditioned):
    """A consistency function (Song et al., Consistency Models, 2023), which predicts the end of the teacher's ODE,

        f(x, tau) = z0_hat(F) + g_c sd (1 - cos(phi)) p          f(x, 0) = x

    ``z0_hat``, ``sd``, ``phi`` and ``p`` are those of :class:`Preconditioned`. The head is the same, so a student
    starts as its teacher. The gain ``g_c`` of every channel is learned, starting from 0. It carries noise to the end of
    the ODE: for a Gaussian residual of deviation ``q``, the right gain is ``q / sd``. The scale ``sd`` is not trained,
    because student, teacher and fake network share it. Trained by ``training=distill``.

    Args:
        spec, num_levels, temporal_weight: see :class:`Preconditioned`.
        variance, gate: see :class:`Preconditioned`; must equal the teacher's.
        consistency: weight of the loss that makes ``f`` constant along the teacher's ODE; 0 turns it off.
        matching: settings of distribution matching; None turns it off.

    Raises:
        BadValue: both losses are turned off.
    """

    distilled = True

    def __init__(
        self,
        spec: ClipSpec,
        num_levels: NumLevels,
        temporal_weight: float = 1.0,
        variance: float = 10.0,
        gate: Gate | None = None,
        consistency: float = 1.0,
        matching: Matching | None = None,
    ):
        super().__init__(spec, num_levels, temporal_weight, variance, gate)
        non_negative("consistency", consistency, "a weight")
        if consistency == 0 and matching is None:
            raise BadValue("consistency", consistency, "a weight > 0, or objective=distribution_matching")
        self.consistency, self.matching = consistency, matching
        self.arc.log_variance.requires_grad_(False)
        self.gain = nn.Parameter(torch.zeros(spec.channels))

    def clean_estimate(
        self, output: Float[Tensor, "b o t *space"], corrupted: Corrupted
    ) -> Float[Tensor, "b c t *space"]:
        """``f(x, tau)``."""
        on, like = self.arc(corrupted), corrupted.x
        end = super().clean_estimate(output, corrupted) + on.deviation * self._carried(on)
        return torch.where(per_sample(corrupted.tau == 0, like), like, end)

    def target(self, corrupted: Corrupted) -> Float[Tensor, "b o t *space"]:
        """The output whose estimate is the clean clip."""
        on = self.arc(corrupted)
        residual = (corrupted.clean - corrupted.interpolation) / on.deviation
        start = on.angle.cos() * on.point + self._carried(on)
        return self.undecided((start - residual) / on.angle.sin().clamp(min=TINY), corrupted)

    def _carried(self, on: OnArc) -> Float[Tensor, "b c t *space"]:
        """``g_c (1 - cos(phi)) p``: the noise that reaches the end, in units of ``sd``."""
        gain = (FASTER * self.gain).view(1, -1, *[1] * (on.point.ndim - 2))
        return gain * (1 - on.angle.cos()) * on.point
