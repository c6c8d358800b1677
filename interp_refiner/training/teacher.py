"""A student's teacher: the trained bridge, how its weights are kept, and how a student gets them at its start."""

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

GAIN = "gain"  # the parameter of a consistency function that its teacher lacks
ALLOWED = "the one whose frozen weights are loaded, because a student with adapters shares them with it"
BACKENDS = ("backend", "cross_backend")  # kernels of attention, which compute the same


class SharedBase(nn.Module):
    """The teacher of a student with adapters: the student's network with its adapters off. The base is kept once.

    Other layers that the student trains (small ones at the ends of the network) are kept twice. The base has the
    precision in which the student keeps it.

    Args:
        student: with adapters; its frozen weights are the teacher's.
        teacher: the same network without adapters. Only its layers that the student trains are kept.
    """

    def __init__(self, student: Backbone, teacher: Backbone):
        super().__init__()
        self.of_student = (student,)  # a tuple hides it: the student is no part of its teacher
        frozen = {name: weight for name, weight in student.named_parameters() if not weight.requires_grad}
        on_meta = any(weight.is_meta for weight in frozen.values())  # a plan of memory has no weights
        self.digest = "" if on_meta else tensors_digest({name_without(name): w for name, w in frozen.items()})
        shown = bases(student)
        for name, module in student.named_modules():
            inside = any(name.startswith(f"{other}.") for other in shown)
            if not inside and any(weight.requires_grad for weight in module.parameters(recurse=False)):
                shown[name] = teacher.get_submodule(name)
        adapted = bases(student).keys()
        self.own = nn.ModuleList(module for name, module in shown.items() if name not in adapted)
        self.places = []
        for name, module in shown.items():
            parent, _, child = name.rpartition(".")
            self.places.append((student.get_submodule(parent), child, student.get_submodule(name), module))

    def forward(self, seen: Corrupted | Shown) -> Float[Tensor, "b o t *space"]:
        with self.swapped():
            return self.of_student[0](seen)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Makes the student's network compute as the teacher's inside a block."""
        try:
            for parent, child, _, module in self.places:
                setattr(parent, child, module)
            yield
        finally:
            for parent, child, module, _ in self.places:
                setattr(parent, child, module)

    def check(self, state: Mapping[str, Any], prefix: str) -> None:
        """Refuses weights for the student whose frozen ones are not the teacher's.

        Args:
            state: the state dict to load.
            prefix: of the student's names in it.

        Raises:
            BadValue: naming the first weight that differs.
        """
        for name, weight in self.of_student[0].named_parameters():
            value = state.get(prefix + name)
            if value is None or weight.requires_grad or isinstance(value, DTensor) or isinstance(weight, DTensor):
                continue  # shards are read into the shared weights themselves
            if not torch.equal(weight.detach(), value.to(weight)):
                raise BadValue("training.teacher", f"a network with another {name_without(name)}", ALLOWED)

    def check_digest(self, stored: str | None) -> None:
        """Refuses the checkpoint of a student with another base; also works where its weights are sharded.

        Args:
            stored: the :attr:`digest` in the checkpoint; None in older ones, which are not checked.

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
            network, see :class:`SharedBase`; its weights then have to be the refiner's, see :func:`begin_as`.

    Raises:
        BadValue: the refiner's objective is not the bridge's own, in units of the residual.
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
    """Whether a student without its adapters is the same network as its teacher, after :func:`begin_as`."""
    if not bases(student) or bases(teacher):
        return False
    try:
        check_alike("attention", student.attention, teacher.attention, leave_out=BACKENDS)
    except BadValue:
        return False
    return True


def bridge_of(refiner: Refiner) -> Preconditioned:
    """The objective of a trained bridge; raises :class:`BadValue` for another one, and for estimates of no mean."""
    objective = refiner.objective
    if not isinstance(objective, Preconditioned) or objective.distilled:
        allowed = "one with objective=preconditioned, whose head the student goes on with"
        raise BadValue("teacher", type(objective).__name__, allowed)
    if objective.penalty is not None:
        penalty = type(objective.penalty).__name__.lower()
        raise BadValue("teacher", f"trained with objective/penalty={penalty}", "one without: the bridge needs the mean")
    return objective


def check_student(objective: Preconditioned, backbone: Backbone, corruption: Corruption, teacher: Refiner) -> None:
    """Refuses a student whose objective, input or bridge differs in meaning from the teacher's.

    Args:
        objective, backbone, corruption: of the student.
        teacher: the trained bridge.

    Raises:
        BadValue: naming the setting.
    """
    check_bridge(corruption, teacher.corruption)
    taught = bridge_of(teacher)
    check_alike("objective.variance", objective.arc.variance, taught.arc.variance)
    check_alike("objective.gate", objective.gate, taught.gate)
    own, other = (getattr(network, "conditioning", None) for network in (backbone, teacher.backbone))
    check_alike("backbone.conditioning", own, other, leave_out=["seed"])
    own, other = (sorted(heads(network)) for network in (backbone, teacher.backbone))
    if own != other:  # the weights have the same shapes
        raise BadValue("backbone.size", f"attention with {own} heads", f"{other}, the teacher's")


def heads(network: nn.Module) -> set[int]:
    """The numbers of heads that attention has in a network."""
    counts = {getattr(module, name, None) for module in network.modules() for name in ("heads", "num_heads")}
    return {count for count in counts if isinstance(count, int)}


def check_bridge(corruption: Corruption, taught: Corruption) -> None:
    """Refuses a student on another bridge than its teacher's.

    Raises:
        BadValue: naming the setting.
    """
    for name in ("sigma", "keyframe_fraction"):
        check_alike(f"corruption.{name}", getattr(corruption, name), getattr(taught, name))
    noise, other = corruption.noise, taught.noise
    for length in filter(None, [vars(profile).get("num_frames") for profile in (noise, other)]):
        noise, other = noise.of_clips(length), other.of_clips(length)  # clips of both have the same length
    if type(noise) is not type(other) or vars(noise) != vars(other):
        told = ", ".join(f"{name}={value}" for name, value in vars(other).items())
        raise BadValue("corruption.noise", type(noise).__name__, f"{type(other).__name__} with {told}, the teacher's")
    check_alike("interpolator", corruption.interpolator, taught.interpolator)
    law, wanted = (getattr(c.scheduled_sampling, "proposal_confidence", None) for c in (corruption, taught))
    if law is not None and wanted is not None:  # both may replace keyframes
        check_alike("scheduled_sampling.confidence", law, wanted)


def begin_as(student: nn.Module, teacher: nn.Module, name: str) -> None:
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
        raise BadValue(name, type(student).__name__, f"as the teacher has it: {faults}")
    student.load_state_dict(found, strict=False)
