"""A student's teacher: the trained bridge, memory shared with the student, and the student's initial weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from interp_refiner.core import BadValue, Corrupted, state_faults, tensors_digest
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.backbone import Backbone, Shown, bases, is_adapter, name_without
from interp_refiner.model.objective import Preconditioned
from interp_refiner.training.compare import check_alike
from interp_refiner.training.refiner import Refiner

GAIN = "gain"  # the parameter of a consistency function that its teacher does not have
ALLOWED = "the teacher of the stored student, because a student with adapters shares its frozen weights"
BACKENDS = ("backend", "cross_backend")  # kernels of attention, which do not change the result


class SharedBase(nn.Module):
    """The teacher of a student with adapters: the student's network without its adapters, so memory has the base once.

    Other layers that the student trains (small ones at both ends of the network) are in memory twice. The base has the
    student's precision.

    Args:
        student: a network with adapters; its frozen weights are the teacher's.
        teacher: the same network without adapters. Only its layers that the student trains are kept.
    """

    def __init__(self, student: Backbone, teacher: Backbone):
        super().__init__()
        self.of_student = (student,)  # in a tuple, so that the student is not a submodule
        frozen = {name: weight for name, weight in student.named_parameters() if not weight.requires_grad}
        on_meta = any(weight.is_meta for weight in frozen.values())  # only to compute the memory of a step
        self.digest = "" if on_meta else tensors_digest({name_without(name): w for name, w in frozen.items()})
        replacements = bases(student)
        for name, module in student.named_modules():
            inside = any(name.startswith(f"{other}.") for other in replacements)
            if not inside and any(weight.requires_grad for weight in module.parameters(recurse=False)):
                replacements[name] = teacher.get_submodule(name)
        adapted = bases(student).keys()
        self.own = nn.ModuleList(module for name, module in replacements.items() if name not in adapted)
        self.places = []
        for name, module in replacements.items():
            parent, _, child = name.rpartition(".")
            self.places.append((student.get_submodule(parent), child, student.get_submodule(name), module))

    def forward(self, seen: Corrupted | Shown) -> Float[Tensor, "b o t *space"]:
        with self.swapped():
            return self.of_student[0](seen)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Turns the student's network into the teacher's inside a ``with`` block."""
        try:
            for parent, child, _, module in self.places:
                setattr(parent, child, module)
            yield
        finally:
            for parent, child, module, _ in self.places:
                setattr(parent, child, module)

    def check(self, state: Mapping[str, Any], prefix: str) -> None:
        """Refuses student weights whose frozen part is not the teacher's.

        Args:
            state: the state dict to load.
            prefix: prefix of the student's names in it.

        Raises:
            BadValue: a weight differs; names the first one.
        """
        for name, weight in self.of_student[0].named_parameters():
            value = state.get(prefix + name)
            if value is None or weight.requires_grad or isinstance(value, DTensor) or isinstance(weight, DTensor):
                continue  # shards are loaded directly into the shared weights
            if not torch.equal(weight.detach(), value.to(weight)):
                raise BadValue("training.teacher", f"a network with another {name_without(name)}", ALLOWED)

    def check_digest(self, stored: str | None) -> None:
        """Refuses the checkpoint of a student with another base; also works for sharded weights.

        Args:
            stored: the :attr:`digest` in the checkpoint; None in older checkpoints, which are not checked.

        Raises:
            BadValue: another base.
        """
        if stored is not None and stored != self.digest:
            raise BadValue("training.teacher", "a network with other frozen weights", ALLOWED)


class Teacher(nn.Module):
    """A trained bridge, frozen: ``z0_T``, with the guidance and the views of its own sampler.

    Args:
        refiner: the trained refiner.
        student: the network that learns from it. If it has adapters and the refiner has none, its base is the teacher's
            network, see :class:`SharedBase`; it must then have the refiner's weights, see :func:`start_as`.

    Raises:
        BadValue: the refiner's objective is not ``preconditioned``, or its estimates are not means.
    """

    def __init__(self, refiner: Refiner, student: Backbone):
        super().__init__()
        shared = shares_base(student, refiner.backbone)
        self.backbone = SharedBase(student, refiner.backbone) if shared else refiner.backbone
        self.objective, self.sampler = bridge_of(refiner), refiner.sampler
        self.reflections = refiner.corruption.reflections
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        return self.sampler.estimates(self.estimate, self.reflections)(corrupted)

    def estimate(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        """``z0_T`` of one view, without guidance."""
        return self.objective.clean_estimate(self.backbone(corrupted), corrupted)


def shares_base(student: Backbone, teacher: Backbone) -> bool:
    """Whether a student without its adapters is the same network as its teacher, after :func:`start_as`."""
    if not bases(student) or bases(teacher):
        return False
    try:
        check_alike("attention", student.attention, teacher.attention, leave_out=BACKENDS)
    except BadValue:
        return False
    return True


def bridge_of(refiner: Refiner) -> Preconditioned:
    """The objective of a trained bridge; raises :class:`BadValue` for others, or if its estimates are not means."""
    objective = refiner.objective
    if not isinstance(objective, Preconditioned) or objective.distilled:
        allowed = "one with objective=preconditioned, because the student continues to train its head"
        raise BadValue("teacher", f"a refiner with objective={type(objective).__name__.lower()}", allowed)
    if objective.penalty is not None:
        penalty = type(objective.penalty).__name__.lower()
        raise BadValue("teacher", f"trained with objective/penalty={penalty}", "one without: the bridge needs the mean")
    return objective


def check_student(objective: Preconditioned, backbone: Backbone, corruption: Corruption, teacher: Refiner) -> None:
    """Refuses a student whose objective, inputs or bridge differ from the teacher's.

    Args:
        objective, backbone, corruption: the student's.
        teacher: the trained bridge.

    Raises:
        BadValue: a setting differs; names it.
    """
    check_bridge(corruption, teacher.corruption)
    taught = bridge_of(teacher)
    check_alike("objective.variance", objective.arc.variance, taught.arc.variance)
    check_alike("objective.gate", objective.gate, taught.gate)
    own, other = (getattr(network, "conditioning", None) for network in (backbone, teacher.backbone))
    check_alike("backbone.conditioning", own, other, leave_out=["seed"])
    own, other = (sorted(heads(network)) for network in (backbone, teacher.backbone))
    if own != other:  # the shapes of weights do not depend on the number of heads
        raise BadValue("backbone.size", f"attention with {own} heads", f"{other}, the teacher's")


def heads(network: nn.Module) -> set[int]:
    """The numbers of attention heads in a network, without repeats."""
    counts = {getattr(module, name, None) for module in network.modules() for name in ("heads", "num_heads")}
    return {count for count in counts if isinstance(count, int)}


def check_bridge(corruption: Corruption, taught: Corruption) -> None:
    """Refuses a student whose bridge differs from its teacher's.

    Raises:
        BadValue: a setting differs; names it.
    """
    for name in ("sigma", "keyframe_fraction"):
        check_alike(f"corruption.{name}", getattr(corruption, name), getattr(taught, name))
    noise, other = corruption.noise, taught.noise
    for length in filter(None, [vars(profile).get("num_frames") for profile in (noise, other)]):
        noise, other = noise.of_clips(length), other.of_clips(length)  # clips of both have the same length
    if type(noise) is not type(other) or vars(noise) != vars(other):
        settings = ", ".join(f"{name}={value}" for name, value in vars(other).items())
        raise BadValue(
            "corruption.noise", type(noise).__name__, f"{type(other).__name__} with {settings}, the teacher's"
        )
    check_alike("interpolator", corruption.interpolator, taught.interpolator)
    own, wanted = (getattr(c.scheduled_sampling, "proposal_confidence", None) for c in (corruption, taught))
    if own is not None and wanted is not None:  # both may replace keyframes
        check_alike("scheduled_sampling.confidence", own, wanted)


def start_as(student: nn.Module, teacher: nn.Module, name: str) -> None:
    """Gives a student its teacher's weights. Adapters that the teacher lacks keep their initial zeros.

    Raises:
        BadValue: a network of another size or kind.
    """
    own, weights = student.state_dict(), teacher.state_dict()
    added = {n for n in own if n not in weights and (is_adapter(n) or n == GAIN)}
    taken = {n: weights.get(n, weights.get(name_without(n))) for n in own.keys() - added}
    found = {n: weight for n, weight in taken.items() if weight is not None}
    found |= {n: weights[n] for n in weights.keys() - found.keys() - {name_without(n) for n in found}}
    if faults := state_faults(own, found, optional=added):
        raise BadValue(name, type(student).__name__, f"the same as the teacher's: {faults}")
    student.load_state_dict(found, strict=False)
