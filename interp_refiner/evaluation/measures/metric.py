"""The base classes of metrics, which compute figures of clips."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp_refiner.core import BadValue, Clip, Measure, choice
from interp_refiner.evaluation.measures.bootstrap import Bootstrap

Role = Literal["estimate", "baseline", "control"]
TRUTH, SHUFFLED = "truth", "shuffled keyframes"


class Record(NamedTuple):
    """One figure.

    Attributes:
        measure: its name.
        method: whose it is.
        value, low, high: the figure and its interval; NaN where there is none.
        against: the method that it is compared with.
        level, gap, offset: of the frames that it is from; None: of all.
        clips: how many it is from.
    """

    measure: str
    method: str
    value: float
    low: float
    high: float
    against: str | None = None
    level: int | None = None
    gap: int | None = None
    offset: int | None = None
    clips: int | None = None


@dataclass(frozen=True)
class Design:
    """The methods, baselines and intervals of an evaluation.

    Attributes:
        methods: names and roles, in the order to be shown.
        baselines: those that the others are compared with.
        bootstrap: of the intervals.

    Raises:
        BadValue: a baseline that is no method.
    """

    methods: Mapping[str, Role]
    baselines: Sequence[str] = ()
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def __post_init__(self) -> None:
        for baseline in self.baselines:
            choice("baselines", baseline, self.methods)

    def pairs(self, methods: Sequence[str]) -> list[tuple[str, str]]:
        """Every (method, baseline) with different names among these methods."""
        return [(m, n) for m in methods for n in self.baselines if n in methods and m != n]


@dataclass(frozen=True)
class Batch:
    """Clips of one batch as every method has them, on the domain of a metric.

    Attributes:
        estimates: by method.
        clean: the truth.
        known: the keyframes among the t latent frames.
        level: of each clip.
        sample: index of each clip in its data set.
        latent_frame: the latent frame that each of the n frames belongs to; None where n = t.
        values: the keyframes' values; elsewhere they mean nothing.
        clip: the batch as it was read, for its context.
        samples: several of each clip.
    """

    estimates: Mapping[str, Float[Tensor, "b c n *space"]]
    clean: Float[Tensor, "b c n *space"]
    known: Bool[Tensor, "b t"]
    level: Int[Tensor, " b"]
    sample: Int[Tensor, " b"]
    latent_frame: Int[Tensor, " n"] | None = None
    values: Float[Tensor, "b c t *space"] | None = None
    clip: Clip | None = None
    samples: Float[Tensor, "m b c t *space"] | None = None

    @property
    def keyframes(self) -> Bool[Tensor, "b n"]:
        """The known frames, counted in the clips' own frames."""
        return self.in_frames(self.known)

    def in_frames(self, by_latent: Tensor) -> Tensor:
        """``[b, t]`` -> ``[b, n]``."""
        return by_latent if self.latent_frame is None else by_latent[:, self.latent_frame]


@runtime_checkable
class Table(Protocol):
    """Collects the values of a metric, batch by batch."""

    def to(self, device: torch.device) -> "Table":
        """Moves what it computes with."""

    def update(self, batch: Batch) -> None:
        """Adds a batch.

        Raises:
            BadValue: the batch lacks a method.
        """

    def compute(self) -> list[Record]:
        """The figures of all batches."""


class Metric(nn.Module, ABC):
    """Computes figures of clips; a YAML in ``conf/metric`` configures one.

    Attributes:
        measures: the figures, all on one domain.
    """

    measures: ClassVar[tuple[Measure, ...]]

    @property
    def domain(self) -> str:
        """The clips that it is measured on."""
        return self.measures[0].domain

    def judged(self, methods: Mapping[str, Role]) -> list[str]:
        """The methods that it looks at: not estimates from shuffled keyframes, good clips of another kind."""
        return [method for method in methods if method != SHUFFLED]

    @abstractmethod
    def table(self, design: Design) -> Table:
        """A new table for the figures."""


def checked(batch: Batch, methods: Sequence[str]) -> Batch:
    """The batch; raises :class:`BadValue` unless it has an estimate of every method."""
    if missing := set(methods) - set(batch.estimates):
        raise BadValue("estimates", sorted(batch.estimates), f"also {sorted(missing)}")
    return batch
