"""The interface of embedded worlds; scenes are functions of (seed, stream, key)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from math import inf
from typing import Annotated, Any, ClassVar

from interp_refiner.core import UNBOUNDED, BadValue, Draws
from interp_refiner.data.world.captions import Captions, FirstDirection
from interp_refiner.data.world.scene import Scene

MAX_OBJECTS = 3
FIRST = {"world": "bouncing", "captions": FirstDirection.__name__, "max_objects": MAX_OBJECTS, "max_gain": inf}


@dataclass(frozen=True)
class World(ABC):
    """A distribution of random scenes, with their captions.

    Attributes:
        version: increase it whenever the same settings give other scenes.
        curve: largest change of an object's heading per step, in radians, that does not count as an abrupt turn.
        captions: makes a scene's caption.
        max_objects: largest number of objects in a scene, 1 to 3.
        max_gain: largest amplification of a latent channel relative to the strongest channel (see
            :func:`channel_scales`); infinity scales every channel to unit variance.

    Raises:
        BadValue: ``max_objects`` outside 1..3, or ``max_gain`` below 1.
    """

    version: ClassVar[int]
    curve: ClassVar[float]
    captions: Captions = field(default_factory=FirstDirection)
    max_objects: int = MAX_OBJECTS
    max_gain: Annotated[float, UNBOUNDED] = inf

    def __post_init__(self) -> None:
        if not self.max_gain >= 1:  # nor NaN
            raise BadValue("max_gain", self.max_gain, "at least 1")
        if not 1 <= self.max_objects <= MAX_OBJECTS:
            raise BadValue("max_objects", self.max_objects, f"1 to {MAX_OBJECTS}")

    @abstractmethod
    def draw(self, draws: Draws, num_frames: int, height: int, width: int) -> Scene:
        """One scene of 1 to ``max_objects`` objects per key of ``draws``, a function of (seed, stream, key) alone.

        Needs at least 2 frames. A scene's first objects do not depend on ``max_objects``.
        """

    @property
    def name(self) -> str:
        """The name of its option in the config group ``data/world``."""
        return type(self).__name__.lower()

    def settings(self) -> dict[str, Any]:
        """The settings that differ from the first version of :class:`Bouncing`.

        So data sets of that version keep their fingerprints.
        """
        own = {f.name: getattr(self, f.name) for f in fields(self)} | {"captions": type(self.captions).__name__}
        found = {"world": self.name} | own
        return {name: value for name, value in found.items() if FIRST.get(name) != value}
