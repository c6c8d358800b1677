"""What the captions of moving shapes say of a scene."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, final

from interp_refiner.data.world.scene import BRIGHTNESS, DIRECTIONS, SHAPES, Scene


class Captions(ABC):
    """Describes every object of a scene, from the hindmost to the foremost.

    Attributes:
        words: that the embedding of a caption has room for.
    """

    words: ClassVar[int]

    @abstractmethod
    def motion(self, directions: list[int], seen: int) -> str:
        """How an object moves.

        Args:
            directions: of each of its ``t - 1`` steps, an index into ``DIRECTIONS``.
            seen: the first step from a place inside the frame.
        """

    def __call__(self, scene: Scene) -> list[str]:
        """One caption a scene."""
        seen = scene.in_view[..., :-1].int().argmax(-1)
        columns = (scene.present, scene.brightness, scene.shape, scene.directions, seen)
        return [
            " and ".join(
                f"{BRIGHTNESS[b]} {SHAPES[s]} moving {self.motion(d, first)}"
                for p, b, s, d, first in zip(*row, strict=True)
                if p
            )
            for row in zip(*(column.tolist() for column in columns), strict=True)
        ]


@final
@dataclass(frozen=True)
class FirstDirection(Captions):
    """Where every object goes when it is first seen: ``"bright circle moving left and dark square moving up"``."""

    words: ClassVar[int] = 16

    def motion(self, directions: list[int], seen: int) -> str:
        return DIRECTIONS[directions[seen]]


@final
@dataclass(frozen=True)
class Turns(Captions):
    """All of an object's way: ``"bright circle moving left turning down at 6 turning right at 14"``.

    A turn or a bounce is said where the direction becomes another of the eight; the number is the frame that shows the
    object before its first step the new way. So the caption knows what keyframes left and right of a turn leave open.
    An object on a curve takes up to 9 words a quarter of a circle, and what has no room is cut: with such objects,
    choose few.
    """

    words: ClassVar[int] = 64

    def motion(self, directions: list[int], seen: int) -> str:
        turns = [
            f"turning {DIRECTIONS[after]} at {frame}"
            for frame, (before, after) in enumerate(pairwise(directions), 1)
            if after != before
        ]
        return " ".join([DIRECTIONS[directions[0]], *turns])
