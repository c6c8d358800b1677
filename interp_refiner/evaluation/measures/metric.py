"""The interfaces of metrics, which measure clips."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp_refiner.core import BadValue, Clip, Measure, choice
from interp_refiner.evaluation.statistics.bootstrap import Bootstrap

Role = Literal["estimate", "baseline", "control"]
TRUTH, SHUFFLED = "truth", "shuffled keyframes"


class Record(NamedTuple):
    """One measured value.

    Attributes:
        measure: name of the measure.
        method: the measured method.
        value, low, high: the value and its interval; NaN if there is none.
        against: the method that it is compared with.
        level, gap, offset: of the measured frames; None: over all.
        clips: number of clips behind the value.
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
        methods: names and roles, in display order.
        baselines: methods that the others are compared with.
        bootstrap: settings of the intervals.

    Raises:
        BadValue: a baseline that is not a method.
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
    """The clips of one batch from every method, in the domain of a metric.

    Attributes:
        estimates: by method.
        clean: the truth.
        known: the keyframes among the t latent frames.
        level: of each clip.
        sample: index of each clip in its data set.
        latent_frame: the latent frame that each of the n frames belongs to; None where n = t.
        values: the keyframes' values; undefined on other frames.
        clip: the batch as it was read, for its context.
        samples: several samples of each clip.
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
        """Which of the n frames are known."""
        return self.in_frames(self.known)

    def in_frames(self, by_latent: Tensor) -> Tensor:
        """Values per latent frame ``[b, t]`` as values per frame ``[b, n]``."""
        return by_latent if self.latent_frame is None else by_latent[:, self.latent_frame]


@runtime_checkable
class Table(Protocol):
    """Collects the values of a metric, batch by batch."""

    def to(self, device: torch.device) -> "Table":
        """Moves its tensors and networks to a device."""

    def update(self, batch: Batch) -> None:
        """Adds a batch.

        Raises:
            BadValue: the batch lacks a method.
        """

    def compute(self) -> list[Record]:
        """The records of all batches."""


class Metric(nn.Module, ABC):
    """Measures clips; a YAML in ``conf/metric`` configures one.

    Attributes:
        measures: its measures, all on one domain.
    """

    measures: ClassVar[tuple[Measure, ...]]

    @property
    def domain(self) -> str:
        """The domain of the clips that it takes."""
        return self.measures[0].domain

    def judged(self, methods: Mapping[str, Role]) -> list[str]:
        """The methods that it measures; by default without estimates from shuffled keyframes, which are other clips."""
        return [method for method in methods if method != SHUFFLED]

    @abstractmethod
    def table(self, design: Design) -> Table:
        """A new table for its values."""


def checked(batch: Batch, methods: Sequence[str]) -> Batch:
    """The batch; raises :class:`BadValue` unless it has an estimate of every method."""
    if missing := set(methods) - set(batch.estimates):
        raise BadValue("estimates", sorted(batch.estimates), f"also {sorted(missing)}")
    return batch
