"""The LightningModule that trains a student to make in one step what its teacher makes in many."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, Corrupted, state_faults
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.backbone import Backbone
from interp_refiner.model.objective import Consistency, Objective, Preconditioned
from interp_refiner.model.sampler import Sampler
from interp_refiner.training.optimizer import OptimizerRecipe
from interp_refiner.training.refiner import Refiner
from interp_refiner.training.tangent import Tangent
GAIN = "gain"  # of a consistency function: what its teacher has not


class Teacher(nn.Module):
    """A trained bridge, frozen: ``z0_T``, guided as its own sampler is.

    Args:
        refiner: that was trained.

    Raises:
        BadValue: its objective is not the bridge's own, in units of the residual.
    """

    def __init__(self, refiner: Refiner):
        super().__init__()
        if not isinstance(refiner.objective, Preconditioned) or refiner.objective.distilled:
            allowed = "one with objective=preconditioned, whose head the student goes on with"
            raise BadValue("teacher", type(refiner.objective).__name__, allowed)
        self.backbone, self.objective = refiner.backbone, refiner.objective
        self.guidance = refiner.sampler.guidance
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        return self.guidance(self.estimate)(corrupted)

    def estimate(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        """``z0_T`` without guidance."""
        return self.objective.clean_estimate(self.backbone(corrupted), corrupted)


class Distill(Refiner):
    """Trains a consistency function from a teacher (docs/method.md, One step).

    The student starts as the teacher. Checkpoints hold the student: the teacher is read where it lies, and a trained
    student is loaded as a refiner, without it.

    Args:
        backbone, optimizer, corruption: as of :class:`Refiner`; backbone and corruption as the teacher has them.
        objective: what the student learns.
        sampler: how validation makes a clip, ``consistency`` or the one jump.
        teacher: a trained bridge; it is frozen.
        tangent: how the student is made constant along the teacher's ODE.

    Raises:
        BadValue: an objective that is no consistency function, a teacher of another network or another bridge, a
            network that the tangent cannot differentiate.
    """

    def __init__(
        self,
        backbone: Backbone,
        objective: Objective,
        optimizer: OptimizerRecipe,
        sampler: Sampler,
        corruption: Corruption,
        teacher: Refiner,
        tangent: Tangent,
    ):
        if not isinstance(objective, Consistency):
            allowed = "consistency | distribution_matching | rcm with training=distill"
            raise BadValue("objective", type(objective).__name__, allowed)
        check_bridge(corruption, teacher.corruption)
        tangent.check(backbone)
        super().__init__(backbone, objective, optimizer, sampler, corruption, saves_frozen=True)
        self.tangent = tangent
        self.taught_by = [Teacher(teacher)]  # a list hides it: it is no part of checkpoints, averages and the optimizer
        for name in ("backbone", "objective"):
            begin_as(getattr(self, name), getattr(self.teacher, name), name)

    @property
    def teacher(self) -> Teacher:
        return self.taught_by[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """The teacher goes with the module to another device and precision."""
        self.teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def training_step(self, corrupted: Corrupted, batch_index: int) -> Tensor:
        if self.corruption.scheduled_sampling.from_model:
            corrupted = self.with_own_proposals(corrupted)
        estimate = self.clean_estimate(corrupted)
        target = self.tangent.target(self.clean_estimate, self.teacher, corrupted, estimate.detach())
        loss = self.objective.against(estimate, target, corrupted)
        self.objective.observe(corrupted)
        size = corrupted.clip.batch_size
        self.log("train/loss", loss.total, prog_bar=True, batch_size=size)
        self.log_dict({"train/error": loss.error, "train/temporal_error": loss.temporal}, batch_size=size)
        return loss.total

    def step_flops(self, corrupted: Corrupted) -> float | None:
        """The student's pass and its backward pass, and the passes that make its target."""
        forward = self.forward_flops(corrupted)
        if forward is None:
            return None
        proposals = int(self.corruption.scheduled_sampling.from_model)
        return forward.training.total + (proposals + self.tangent.of_teacher + self.tangent.of_student) * forward.total

    @property
    def teacher(self) -> Teacher:
        return self.taught_by[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """The teacher goes with the module to another device and precision."""
        self.teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def configure_model(self) -> None:
        super().configure_model()
        strategy: Any = self.trainer.strategy
        if hasattr(strategy, "parallelize"):
            strategy.parallelize(self.teacher.backbone)

    def training_step(self, corrupted: Corrupted, batch_index: int) -> Tensor:
        if self.corruption.scheduled_sampling.from_model:
            corrupted = self.with_own_proposals(corrupted)
        estimate = self.clean_estimate(corrupted)
        target = self.tangent.target(self.clean_estimate, self.teacher, corrupted, estimate.detach())
        loss = self.objective.against(estimate, target, corrupted)
        self.objective.observe(corrupted)
        size = corrupted.clip.batch_size
        self.log("train/loss", loss.total, prog_bar=True, batch_size=size)
        self.log_dict({"train/error": loss.error, "train/temporal_error": loss.temporal}, batch_size=size)
        return loss.total

    def step_flops(self, corrupted: Corrupted) -> float | None:
        """The student's pass and its backward pass, and the passes that make its target."""
        forward = self.forward_flops(corrupted)
        if forward is None:
            return None
        proposals = int(self.corruption.scheduled_sampling.from_model)
        return forward.training.total + (proposals + self.tangent.of_teacher + self.tangent.of_student) * forward.total


def check_bridge(corruption: Corruption, taught: Corruption) -> None:
    """Refuses a student on another bridge than its teacher's.

    Raises:
        BadValue: naming the setting.
    """
    for name in ("sigma", "keyframe_fraction"):
        if getattr(corruption, name) != getattr(taught, name):
            raise BadValue(f"corruption.{name}", getattr(corruption, name), f"{getattr(taught, name)}, the teacher's")
    noise, other = corruption.noise, taught.noise
    if type(noise) is not type(other) or vars(noise) != vars(other):
        told = ", ".join(f"{name}={value}" for name, value in vars(other).items())
        raise BadValue("corruption.noise", type(noise).__name__, f"{type(other).__name__} with {told}, the teacher's")


def begin_as(student: nn.Module, teacher: nn.Module, name: str) -> None:
    """Gives a student its teacher's weights.

    Raises:
        BadValue: a network of another size or kind.
    """
    weights: dict[str, Any] = teacher.state_dict()
    if faults := state_faults(student.state_dict(), weights, optional=[GAIN]):
        raise BadValue(name, type(student).__name__, f"as the teacher has it: {faults}")
    student.load_state_dict(weights, strict=False)
