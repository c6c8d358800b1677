"""What every embedded world shares: scenes are functions of (seed, stream, key)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from math import inf
from typing import Any, ClassVar

from interp_refiner.core import BadValue, Draws
from interp_refiner.data.world.captions import Captions, FirstDirection
from interp_refiner.data.world.scene import Scene

MAX_OBJECTS = 3
FIRST = {"world": "bouncing", "captions": FirstDirection.__name__, "max_objects": MAX_OBJECTS, "max_gain": inf}


@dataclass(frozen=True)
class World(ABC):
    """A law of random scenes, and what captions say of them.

    Attributes:
        version: of what it draws; raised whenever the same settings give other scenes.
        curve: the largest change of an object's heading from step to step that is no abrupt turn, radians.
        captions: of a scene.
        max_objects: of a scene, 1 to 3.
        max_gain: what a latent channel is scaled by, relative to the strongest one, at most (see
            :func:`channel_scales`); infinite: every channel to unit variance.

    Raises:
        BadValue: more than 3 objects, or none; a gain below 1.
    """

    version: ClassVar[int]
    curve: ClassVar[float]
    captions: Captions = field(default_factory=FirstDirection)
    max_objects: int = MAX_OBJECTS
    max_gain: float = inf

    def __post_init__(self) -> None:
        if self.max_gain < 1:
            raise BadValue("max_gain", self.max_gain, "at least 1")
        if not 1 <= self.max_objects <= MAX_OBJECTS:
            raise BadValue("max_objects", self.max_objects, f"1 to {MAX_OBJECTS}")

    @abstractmethod
    def draw(self, draws: Draws, num_frames: int, height: int, width: int) -> Scene:
        """One scene of 1 to ``max_objects`` objects per key of ``draws``, a function of (seed, stream, key) alone.

        At least 2 frames. A scene's first objects are the same whatever the most is.
        """

    @property
    def name(self) -> str:
        """Of its option in the group ``data/world``."""
        return type(self).__name__.lower()

    def settings(self) -> dict[str, Any]:
        """What makes this world another than :class:`Bouncing` as it was before there were others.

        Sets of that world keep the fingerprint that they were written with.
        """
        own = {f.name: getattr(self, f.name) for f in fields(self)} | {"captions": type(self.captions).__name__}
        found = {"world": self.name} | own
        return {name: value for name, value in found.items() if FIRST.get(name) != value}
