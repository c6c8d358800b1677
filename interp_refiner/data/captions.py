"""What the captions of moving shapes say of a scene."""

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import final

from interp_refiner.data.scene import BRIGHTNESS, DIRECTIONS, SHAPES, Scene


class Captions(ABC):
    """Describes every object of a scene, from the hindmost to the foremost.

    Attributes:
        words: that the embedding of a caption has room for.
    """

    words: int

    @abstractmethod
    def motion(self, directions: list[int]) -> str:
        """How an object moves, from the index into ``DIRECTIONS`` of each of its ``t - 1`` steps."""

    def __call__(self, scene: Scene) -> list[str]:
        """One caption a scene."""
        columns = (scene.present, scene.brightness, scene.shape, scene.directions)
        return [
            " and ".join(
                f"{BRIGHTNESS[b]} {SHAPES[s]} moving {self.motion(d)}" for p, b, s, d in zip(*row, strict=True) if p
            )
            for row in zip(*(column.tolist() for column in columns), strict=True)
        ]


@final
class FirstDirection(Captions):
    """Where every object sets out to: ``"bright circle moving left and dark square moving up"``."""

    words = 16

    def motion(self, directions: list[int]) -> str:
        return DIRECTIONS[directions[0]]


@final
class Turns(Captions):
    """All of an object's way: ``"bright circle moving left turning down at 6 turning right at 14"``.

    A turn or a bounce is said where the direction becomes another of the eight; the number is the frame that shows the
    object before its first step the new way. So the caption knows what keyframes left and right of a turn leave open.
    """

    words = 64

    def motion(self, directions: list[int]) -> str:
        turns = [
            f"turning {DIRECTIONS[after]} at {frame}"
            for frame, (before, after) in enumerate(pairwise(directions), 1)
            if after != before
        ]
        return " ".join([DIRECTIONS[directions[0]], *turns])
