"""Captions for scenes of moving shapes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, final

from interp_refiner.data.world.scene import BRIGHTNESS, DIRECTIONS, SHAPES, Scene


class Captions(ABC):
    """Describes every object of a scene, from back to front.

    Attributes:
        words: number of words that a caption's embedding can hold.
    """

    words: ClassVar[int]

    @abstractmethod
    def motion(self, directions: list[int], seen: int) -> str:
        """Describes how an object moves.

        Args:
            directions: an index into ``DIRECTIONS`` for each of its ``t - 1`` steps.
            seen: the first step that starts inside the frame.
        """

    def __call__(self, scene: Scene) -> list[str]:
        """One caption per scene."""
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
    """The direction of every object when first seen: ``"bright circle moving left and dark square moving up"``."""

    words: ClassVar[int] = 16

    def motion(self, directions: list[int], seen: int) -> str:
        return DIRECTIONS[directions[seen]]


@final
@dataclass(frozen=True)
class Turns(Captions):
    """An object's whole path: ``"bright circle moving left turning down at 6 turning right at 14"``.

    A turn or a bounce is mentioned if the direction changes to another of the eight; the number is the frame before the
    first step in the new direction. So the caption contains information that the keyframes around a turn do not. An
    object on a curve takes up to 9 words per quarter circle, and words beyond the limit are cut: use few such objects.
    """

    words: ClassVar[int] = 64

    def motion(self, directions: list[int], seen: int) -> str:
        turns = [
            f"turning {DIRECTIONS[after]} at {frame}"
            for frame, (before, after) in enumerate(pairwise(directions), 1)
            if after != before
        ]
        return " ".join([DIRECTIONS[directions[0]], *turns])
