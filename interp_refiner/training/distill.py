"""The LightningModule that distils a teacher: its student makes in one step what the teacher makes in many."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import SUPPLIED, BadValue, Corrupted, frame_mean, masked_mean, per_sample
from interp_refiner.forward.corruption import TRAIN_STREAM, Corruption
from interp_refiner.model.backbone import Backbone, Wan
from interp_refiner.model.objective import Consistency, Objective
from interp_refiner.model.sampler import Sampler
from interp_refiner.training.backbone_module import shards
from interp_refiner.training.optimizer import OptimizerRecipe
from interp_refiner.training.refiner import Refiner, check_distilled
from interp_refiner.training.tangent import Tangent
from interp_refiner.training.teacher import SharedBase, Teacher, check_student, start_as

BASE = "teacher_base"  # in checkpoints: the digest of the weights that a student with adapters shares with its teacher


class Distill(Refiner):
    """Trains a consistency function from a teacher (docs/method.md, One step).

    The student starts with the teacher's weights. Checkpoints hold the student and the fake network; the teacher is
    always read from its own run. A trained student is loaded as a refiner, without teacher and fake network.

    Args:
        backbone, optimizer, corruption: as in :class:`Refiner`; backbone and corruption must equal the teacher's.
        objective: the consistency function and the losses of the student.
        sampler: makes the clips of validation: ``consistency`` or ``one_jump``.
        teacher: a trained bridge; it is frozen.
        tangent: makes the targets of the consistency loss.

    Raises:
        BadValue: an objective that is not a consistency function, a teacher of another network or another bridge, or a
            network that the tangent cannot differentiate.
    """

    def __init__(
        self,
        backbone: Backbone,
        objective: Objective,
        optimizer: OptimizerRecipe,
        sampler: Sampler,
        corruption: Corruption,
        teacher: Annotated[Refiner, SUPPLIED],  # a config has its path
        tangent: Tangent,
    ):
        check_distilled(objective, distills=True)
        assert isinstance(objective, Consistency)
        if objective.matching is not None and corruption.bridge_time.fully_corrupted:
            allowed = "uniform | logit_normal: the fake network learns at all bridge times (or objective=consistency)"
            raise BadValue("corruption.drawn.bridge_time", type(corruption.bridge_time).__name__, allowed)
        check_student(objective, backbone, corruption, teacher)
        if objective.consistency > 0:
            tangent.check(backbone)
        super().__init__(backbone, objective, optimizer, sampler, corruption, saves_frozen=True)
        self.tangent, self.student_rests = tangent, False
        for name in ("backbone", "objective"):
            start_as(getattr(self, name), getattr(teacher, name), name)
        self.fake = fake_network(teacher.backbone, backbone) if objective.matching is not None else None
        # in a list, so that checkpoints, averages and the optimizer do not include it
        self._teachers = [Teacher(teacher, backbone)]

    @property
    def learns(self) -> Consistency:
        """The objective, typed as :class:`Consistency`."""
        assert isinstance(self.objective, Consistency)
        return self.objective

    @property
    def teacher(self) -> Teacher:
        return self._teachers[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Also moves the teacher to the module's new device and precision."""
        self.teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def load_state_dict(self, state_dict: Mapping[str, Any], *arguments: Any, **named: Any) -> Any:
        """Refuses, with :class:`BadValue`, frozen weights that the student shares with its teacher but that differ."""
        if isinstance(shared := self.teacher.backbone, SharedBase):
            shared.check(state_dict, "backbone.")
        return super().load_state_dict(state_dict, *arguments, **named)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if isinstance(shared := self.teacher.backbone, SharedBase):
            checkpoint[BASE] = shared.digest

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses, with :class:`BadValue`, the checkpoint of a student that shares its base with another teacher."""
        if isinstance(shared := self.teacher.backbone, SharedBase):
            shared.check_digest(checkpoint.get(BASE))
        super().on_load_checkpoint(checkpoint)

    @property
    def beside(self) -> Sequence[nn.Module]:
        return [self.teacher.backbone, *([self.fake] if self.fake is not None else [])]

    @property
    def passes(self) -> int:
        """One for the consistency loss, if used; with a fake network also its own and that of the student's clips."""
        return int(self.learns.consistency > 0) + 2 * int(self.fake is not None)

    def training_step(self, corrupted: Corrupted, batch_index: int) -> Tensor:
        if self.corruption.scheduled_sampling.from_model:
            corrupted = self.with_own_proposals(corrupted)
        terms = {}
        if self.students_turn(corrupted.clip.step) and self.learns.consistency > 0:
            terms["consistency"] = self.learns.consistency * self.consistency(corrupted)
        if self.fake is not None:
            terms |= self.matching(corrupted)
        self.objective.observe(corrupted)
        size, total = corrupted.clip.batch_size, torch.stack(list(terms.values())).sum()
        self.student_rests = not self.students_turn(corrupted.clip.step)
        if self.student_rests and torch.distributed.is_initialized() and not shards(self.trainer):
            # DDP waits for a gradient of every trained weight
            total = total + 0 * sum(weight.sum() for weight in self.own_weights())
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=size)
        self.log_dict({f"train/{name}": term.detach() for name, term in terms.items()}, batch_size=size)
        return total

    def students_turn(self, step: int | None) -> bool:
        """Whether the student learns in this optimizer step; a fake network learns in every step."""
        every = self.learns.matching.student_every if self.learns.matching is not None else 1
        return (step or 0) % every == 0

    def own_weights(self) -> list[nn.Parameter]:
        """The student's trained weights."""
        weights = [*self.backbone.parameters(), *self.objective.parameters()]
        return [weight for weight in weights if weight.requires_grad]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.student_rests:  # without gradients, the optimizer does not change weights and moments
            for weight in self.own_weights():
                weight.grad = None
        super().on_before_optimizer_step(optimizer)

    def consistency(self, corrupted: Corrupted) -> Float[Tensor, ""]:
        """The consistency loss: ``f(x, tau)`` against the tangent's target."""
        estimate = self.clean_estimate(corrupted)
        target = self.tangent.target(self.clean_estimate, self.teacher, corrupted, estimate.detach())
        return self.objective.against(estimate, target, corrupted).total

    def matching(self, corrupted: Corrupted) -> dict[str, Float[Tensor, ""]]:
        """The fake network's loss on the student's clips and, in steps in which the student learns, ``L_DMD``.

        The clips ``z = f(zbar + s eps, 1)`` are made from their own noise draw. Another draw then noises them to the
        batch's bridge times.
        """
        turn = self.students_turn(corrupted.clip.step)
        start = replace(corrupted, tau=torch.ones_like(corrupted.tau))
        start = self.corruption.renoised(start, TRAIN_STREAM, "student")
        with torch.set_grad_enabled(turn):
            made = start.keep_given(self.clean_estimate(start))
        clip = replace(corrupted.clip, latents=made.detach())
        noised = self.corruption.renoised(replace(corrupted, clip=clip), TRAIN_STREAM, "fake")
        estimate = self.fake_estimate(noised)
        terms = {"fake": self.objective.against(estimate, noised.clean, noised).total}
        if turn and self.learns.matching is not None:
            target = matched(noised.clean, estimate.detach(), self.teacher(noised), ~noised.given)
            error = masked_mean(frame_mean((made - target).square()), ~noised.given)
            terms["matching"] = self.learns.matching.weight * 0.5 * error.mean()
        return terms

    def fake_estimate(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        """The clean estimate of the fake network, computed with the teacher's objective."""
        assert self.fake is not None
        return self.teacher.objective.clean_estimate(self.fake(corrupted), corrupted)

    def step_flops(self, corrupted: Corrupted) -> float | None:
        """Operations of a step: forward and backward of student and fake network, and forward for their targets."""
        forward = self.forward_flops(corrupted)
        if forward is None:
            return None
        passes, trainings = int(self.corruption.scheduled_sampling.from_model), 0
        turn, of_teacher = self.students_turn(corrupted.clip.step), self.teacher.sampler.passes
        if turn and self.learns.consistency > 0:
            passes, trainings = passes + self.tangent.of_teacher * of_teacher + self.tangent.of_student, 1
        if self.fake is not None:
            # With a backward pass: the fake network, and in the student's turn the student's clips. Without: in the
            # student's turn the teacher's estimate, else the student's clips.
            passes, trainings = passes + (of_teacher if turn else 1), trainings + 1 + turn
        return trainings * forward.training.total + passes * forward.total


def fake_network(teacher: Backbone, student: Backbone) -> Backbone:
    """A copy of the teacher's network to be trained, with the student's activation checkpointing."""
    fake = copy.deepcopy(teacher).requires_grad_(True).train()
    if isinstance(fake, Wan) and isinstance(student, Wan):
        fake.recomputation = student.recomputation
    return fake


def matched(
    clips: Float[Tensor, "b c t *space"],
    fake: Float[Tensor, "b c t *space"],
    teacher: Float[Tensor, "b c t *space"],
    free: Tensor,
) -> Float[Tensor, "b c t *space"]:
    """The target of the student's clips z in distribution matching (Yin et al. 2024, equations 7 and 8):

        z - (z0_F - z0_T) / mean_free |z - z0_T|

    Args:
        clips: z, the student's clips.
        fake, teacher: ``z0_F`` and ``z0_T``: clean estimates of the same noised clips.
        free: frames that are not given, ``[b, t]``.
    """
    size = masked_mean(frame_mean((clips - teacher).abs()), free).clamp(min=1e-6)
    return clips - (fake - teacher) / per_sample(size, clips)
